//! What operators write: connection strings, URLs, templates, the configuration.

use std::path::Path;

use tablerelay::cache::KeyTemplate;
use tablerelay::config::{Environment, Origin, read};
use tablerelay::stores::azure::AccountTarget;
use tablerelay::stores::redis::RedisUrl;

/// Keys and signatures in the corpus hold this, and no name of a setting does.
const SECRET: &str = "c2VjcmV0";

/// A connection string; and the same text as the URL of a cache and as a template of its keys.
pub fn connection_string(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    [account(text), cache(text), template(text)].contains(&true)
}

fn account(text: &str) -> bool {
    match AccountTarget::from_connection_string(text) {
        Ok(target) => {
            let url = target.table_endpoint();
            assert!(matches!(url.scheme(), "http" | "https") && url.host_str().is_some(), "{url}");
            assert!(url.query().is_none() && url.password().is_none(), "what may be a secret is taken out");
            silent(text, &format!("{target:?}"));
            true
        }
        Err(err) => {
            assert!(err.to_string().contains("should") || err.to_string().contains("sig="), "{err}");
            silent(text, &format!("{err} {err:?}"));
            false
        }
    }
}

fn cache(text: &str) -> bool {
    match RedisUrl::parse(text) {
        Ok(url) => {
            let shown = url.to_string();
            assert!(shown.starts_with("redis://") || shown.starts_with("rediss://"), "{shown}");
            assert_eq!(url.is_tls(), shown.starts_with("rediss"));
            let password = text
                .split_once("://")
                .and_then(|(_, rest)| rest.rsplit_once('@'))
                .and_then(|(user, _)| user.split_once(':').map(|(_, password)| password));
            // A short one may be in the host's name by chance.
            let telling = |password: &&str| {
                password.len() > 8 && !password.contains(['/', '?', '@']) && text.matches(password).count() == 1
            };
            let long = password.filter(telling);
            assert!(long.is_none_or(|password| !shown.contains(password)), "{shown}");
            true
        }
        Err(err) => {
            silent(text, &err.to_string());
            false
        }
    }
}

fn template(text: &str) -> bool {
    let Ok(template) = KeyTemplate::parse(text) else { return false };
    assert_eq!(KeyTemplate::parse(&template.to_string()).as_ref(), Ok(&template));
    true
}

/// What is shown of a text with a secret does not show it, but where the secret stands as a name or a host: there nobody
/// could know.
fn silent(text: &str, shown: &str) {
    let values = text.split(';').filter_map(|part| part.split_once('='));
    let secrets = values.filter(|(name, _)| {
        let name = name.trim().to_ascii_lowercase();
        name == "accountkey" || name == "sharedaccesssignature"
    });
    for (_, value) in secrets {
        let value = value.trim();
        // One that is a word of ours, or so short that it is in every text, proves nothing.
        let telling = value.len() > 12 && value.contains(SECRET) && text.matches(value).count() == 1;
        assert!(!telling || !shown.contains(value), "a secret is shown: {shown}");
    }
}

/// A configuration, and behind a line `---` the environment, a variable a line.
pub fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let environment = Environment::of(variables.lines().filter_map(|line| line.split_once('=')));
    match read(Path::new("relay.toml"), file, &environment) {
        Ok(settings) => {
            let shown = settings.to_toml().expect("what was read can be written");
            toml::from_str::<toml::Table>(&shown).expect("it is TOML");
            assert!(settings.replication.settle_window >= settings.replication.max_clock_skew);
            assert!(settings.http.total_timeout <= settings.replication.settle_window / 2);
            assert!(!settings.regions.is_empty());
            assert!(!hides(file, variables) || !format!("{settings:?}{shown}").contains(SECRET), "{shown}");
            true
        }
        Err(problems) => {
            assert!(problems.iter().count() > 0, "what is refused has a reason");
            let lines = file.lines().count().max(1);
            for problem in problems.iter() {
                assert!(!problem.message.is_empty());
                let placed = match &problem.origin {
                    Origin::Line(line) => (1..=lines + 1).contains(line),
                    Origin::Variable(name) => variables.contains(name.as_str()),
                    Origin::File => !problem.key.is_empty() || problem.message.contains("TOML"),
                };
                assert!(placed, "{problem:?} should say where it is");
            }
            let shown = problems.to_string();
            assert!(shown.lines().next().is_some_and(|line| line.starts_with("relay.toml")), "{shown}");
            assert!(!hides(file, variables) || !shown.contains(SECRET), "{shown}");
            false
        }
    }
}

/// Whether the secrets of an input are where secrets belong: in variables, which are put in where a secret is asked for.
fn hides(file: &str, variables: &str) -> bool {
    const SECRETS: [&str; 3] = ["connection_string", "client_secret", "sas"];
    let secret = |line: &str| SECRETS.iter().any(|key| line.trim_start().starts_with(key));
    let overrides = |line: &&str| line.to_ascii_lowercase().starts_with("tablerelay__");
    let plain = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_default();
        let secret = SECRETS.iter().any(|key| name.to_ascii_lowercase().ends_with(key));
        !name.contains(SECRET) && (secret || !value.contains(SECRET))
    };
    !file.contains(SECRET)
        && file.lines().filter(|line| line.contains('$')).all(secret)
        && variables.lines().filter(overrides).all(plain)
}
