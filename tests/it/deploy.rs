//! What lies in deploy/ belongs together and fits the program. That each file is well-formed is checked by linters.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tablerelay::daemon::SHUTDOWN_DEADLINE;

use crate::support::relay::Config;

fn text(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The variables that the daemons get: quoted scalars, continued by a backslash at the end of a line.
fn environment(compose: &str) -> BTreeMap<String, String> {
    let joined = compose.lines().fold(String::new(), |text, line| match text.strip_suffix('\\') {
        Some(text) => format!("{text}{}", line.trim_start()),
        None => format!("{text}\n{line}"),
    });
    let block = joined.lines().skip_while(|line| line.trim() != "environment:").skip(1);
    let entries = block.take_while(|line| line.starts_with("    "));
    let pairs = entries.filter_map(|line| line.trim().split_once(": "));
    pairs
        .filter(|(_, value)| value.starts_with('"'))
        .map(|(name, value)| (name.into(), value.trim_matches('"').into()))
        .collect()
}

/// The regions of the daemons that are started.
fn started(compose: &str) -> Vec<&str> {
    let commands = compose.lines().filter_map(|line| line.trim().strip_prefix("command: [run, --region, "));
    commands.filter_map(|rest| rest.strip_suffix(']')).collect()
}

#[test]
fn compose_starts_a_daemon_for_each_region_with_settings_that_are_right() {
    let (compose, config) = (text("compose.yaml"), text("config.toml"));
    let environment = environment(&compose);
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let checked = Config::new(&config).run(&["config", "check"], &environment);
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""), "{environment:?}");
    let mut started = started(&compose);
    started.sort_unstable();
    let regions = started.iter().map(|region| format!("{region} (writer)")).collect::<Vec<_>>().join(", ");
    assert!(checked.out.contains(&format!("is right: {regions}")), "{started:?} are started of {}", checked.out);
}

#[test]
fn every_region_reaches_the_azurite_and_the_redis_of_its_name() {
    let (compose, config) = (text("compose.yaml"), text("config.toml"));
    let environment = environment(&compose);
    for region in started(&compose) {
        let account = &environment[&region.to_uppercase()];
        for server in [format!("azurite-{region}"), format!("redis-{region}")] {
            assert!(compose.contains(&format!("\n  {server}:\n")), "compose.yaml should have a service {server}");
        }
        assert!(account.contains(&format!("TableEndpoint=http://azurite-{region}:10002/")), "{account}");
        assert!(account.contains(&format!("QueueEndpoint=http://azurite-{region}:10001/")), "{account}");
        assert!(config.contains(&format!("url = \"redis://redis-{region}:6379/0\"")), "no Redis of {region}");
    }
}

/// The scalar of a key that stands once in a document.
fn scalar<'a>(yaml: &'a str, key: &str) -> &'a str {
    let lines: Vec<_> = yaml.lines().filter_map(|line| line.trim().strip_prefix(&format!("{key}: "))).collect();
    assert_eq!(lines.len(), 1, "{key} should stand once: {lines:?}");
    lines[0]
}

#[test]
fn kubernetes_runs_two_daemons_of_a_region_that_keep_nothing_and_may_end_in_time() {
    let (manifest, config) = (text("kubernetes.yaml"), text("config.toml"));
    let (deployment, budget) = manifest.split_once("\n---\n").expect("a deployment and a disruption budget");
    assert_eq!((scalar(deployment, "kind"), scalar(budget, "kind")), ("Deployment", "PodDisruptionBudget"));
    assert_eq!((scalar(deployment, "replicas"), scalar(budget, "minAvailable")), ("2", "1"));
    let args = scalar(deployment, "args").trim_matches(['[', ']']);
    let region = args.split(", ").skip_while(|word| *word != "--region").nth(1).expect("a region");
    assert!(args.starts_with("run, ") && config.contains(&format!("[region.{region}]")), "{args}");
    // The names go by the region, and the selectors by the labels.
    for part in [deployment, budget] {
        let apps: Vec<_> = part.lines().filter_map(|line| line.trim().strip_prefix("app: ")).collect();
        assert!(!apps.is_empty() && apps.iter().all(|app| *app == format!("tablerelay-{region}")), "{apps:?}");
    }
    let grace: u64 = scalar(deployment, "terminationGracePeriodSeconds").parse().expect("seconds");
    assert!(grace >= SHUTDOWN_DEADLINE.as_secs() + 5, "{grace} s");
    assert_eq!(scalar(deployment, "maxUnavailable"), "0");
    for kept in ["StatefulSet", "persistentVolumeClaim", "volumeClaimTemplates", "sessionAffinity", "hostPath"] {
        assert!(!manifest.contains(kept), "{kept}: a daemon keeps nothing");
    }
    for path in ["path: /livez", "path: /readyz", "value: 0.0.0.0:9464", "containerPort: 9464"] {
        assert!(deployment.contains(path), "{path}");
    }
    // Every variable that the configuration needs comes from the secret that the comment creates.
    for variable in config.split("${").skip(1).filter_map(|rest| rest.split('}').next()) {
        assert!(deployment.contains(&format!("--from-literal={variable}=")), "{variable} is in no secret");
    }
}

#[test]
fn the_image_is_built_from_all_that_cargo_wants() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let ignored = read(".dockerignore");
    // cargo refuses a manifest that names a target whose file is not there, wanted or not.
    let folders =
        [("[[bench]]", "benches"), ("[[example]]", "examples"), ("[[test]]", "tests"), ("build =", "build.rs")];
    let manifest = read("Cargo.toml");
    let wanted = folders.iter().filter(|(target, _)| manifest.contains(target)).map(|(_, folder)| *folder);
    for path in wanted.chain(["Cargo.toml", "Cargo.lock", "src"]) {
        assert!(ignored.lines().any(|line| line == format!("!{path}")), ".dockerignore should have a line !{path}");
    }
}
