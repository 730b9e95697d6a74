//! The Bicep files of deploy/ hold together: every region is an origin, probes ask what the program answers, and as they may.
//!
//! There is no compiler of Bicep here, so this reads the part of the language that they are written in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// A value of Bicep: what is no object, list or loop stays as it is written.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Object(BTreeMap<String, Value>),
    List(Vec<Value>),
    /// `[for region in regions: …]`: over what, and what for each.
    Each(String, Box<Value>),
    Word(String),
}

impl Value {
    /// What stands at a path of keys.
    fn at(&self, path: &str) -> &Self {
        path.split('.').fold(self, |value, key| match value {
            Self::Object(fields) => fields.get(key).unwrap_or_else(|| panic!("no {key} of {path} in {value:?}")),
            _ => panic!("{value:?} has no {key} of {path}"),
        })
    }

    fn word(&self, path: &str) -> &str {
        match self.at(path) {
            Self::Word(word) => word.trim_matches('\''),
            other => panic!("{path} is {other:?}"),
        }
    }

    fn number(&self, path: &str) -> u32 {
        self.word(path).parse().unwrap_or_else(|_| panic!("{path} is {}", self.word(path)))
    }
}

/// What is left of a text.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn skip(&mut self) {
        loop {
            self.0 = self.0.trim_start();
            match self.0.strip_prefix("//") {
                Some(comment) => self.0 = comment.split_once('\n').map_or("", |(_, rest)| rest),
                None => return,
            }
        }
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip();
        let rest = self.0.strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Up to one of these characters, which stays.
    fn until(&mut self, ends: &[char]) -> String {
        let end = self.0.find(ends).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken.trim().to_owned()
    }

    fn value(&mut self) -> Value {
        if self.take("[for region in ") {
            let over = self.until(&[':']);
            assert!(self.take(":"), "{}", self.0);
            let each = self.value();
            assert!(self.take("]"), "a loop ends with its bracket: {:.80}", self.0);
            return Value::Each(over, Box::new(each));
        }
        if self.take("{") {
            let mut fields = BTreeMap::new();
            while !self.take("}") {
                let key = self.until(&[':']);
                assert!(self.take(":") && !key.contains(char::is_whitespace), "{key} is a key: {:.80}", self.0);
                let value = self.value();
                assert!(fields.insert(key.clone(), value).is_none(), "{key} is there twice");
            }
            return Value::Object(fields);
        }
        if self.take("[") {
            let mut items = Vec::new();
            while !self.take("]") {
                items.push(self.value());
            }
            return Value::List(items);
        }
        let word = self.until(&['\n', ']', '}']);
        // A text may hold what ends an object.
        let word = if word.matches('\'').count() % 2 == 1 { word + &self.until(&['\n']) } else { word };
        assert!(!word.is_empty(), "there is no value: {:.80}", self.0);
        Value::Word(word)
    }
}

/// The parameters with defaults, and the resources with their types, of a file.
struct Bicep {
    text: String,
    parameters: BTreeMap<String, Value>,
    resources: BTreeMap<String, (String, Value)>,
}

impl Bicep {
    fn read(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mut parameters, mut resources) = (BTreeMap::new(), BTreeMap::new());
        let mut reader = Reader(&text);
        loop {
            reader.skip();
            if reader.take("@description(") {
                reader.until(&['\n']);
                continue;
            }
            let line = reader.until(&['=', '\n', '[']);
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                [] if reader.0.is_empty() => break,
                ["param", name, _] if reader.take("=") => drop(parameters.insert((*name).to_owned(), reader.value())),
                ["resource", name, kind] if reader.take("=") => {
                    let kind = kind.trim_matches('\'').to_owned();
                    resources.insert((*name).to_owned(), (kind, reader.value()));
                }
                ["output", _, _] if reader.take("=") => drop(reader.value()),
                [decorator] if decorator.starts_with('@') => {
                    if decorator.ends_with('(') {
                        reader.value();
                        assert!(reader.take(")"), "{decorator}");
                    }
                }
                other => panic!("{name}: this is not understood: {other:?}"),
            }
        }
        Self { text, parameters, resources }
    }

    /// What stands for a word that is a parameter.
    fn meant<'a>(&'a self, word: &'a str) -> &'a str {
        self.parameters.get(word).map_or(word, |value| match value {
            Value::Word(word) => word.trim_matches('\''),
            other => panic!("{word} is {other:?}"),
        })
    }

    fn of_kind(&self, kind: &str) -> Vec<(&str, &Value)> {
        let of_kind = self.resources.iter().filter(|(_, (is, _))| is.split('@').next() == Some(kind));
        of_kind.map(|(name, (_, value))| (name.as_str(), value)).collect()
    }

    fn resource(&self, name: &str) -> &Value {
        &self.resources.get(name).unwrap_or_else(|| panic!("there is no resource {name}")).1
    }

    /// The regions that it is written for: their names, and the order in which writes try them.
    fn regions(&self) -> BTreeMap<String, u32> {
        let Value::List(regions) = &self.parameters["regions"] else { panic!("regions is a list") };
        let named = regions.iter().map(|region| (region.word("name").to_owned(), region.number("writePriority")));
        named.collect()
    }

    /// That nothing else is promised of it than is so.
    fn says_that_it_was_not_compiled(&self) {
        assert!(self.text.contains("was not compiled or deployed"), "the file says so");
    }
}

/// The regions of the configuration beside which the files lie.
fn configured() -> BTreeSet<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join("config.toml");
    let text = fs::read_to_string(path).expect("deploy/config.toml is there");
    let heads = text.lines().filter_map(|line| line.strip_prefix("[region.")?.strip_suffix(']'));
    heads.filter(|name| !name.contains('.')).map(str::to_owned).collect()
}

fn regions_are_right(bicep: &Bicep) {
    let regions = bicep.regions();
    assert_eq!(regions.keys().cloned().collect::<BTreeSet<_>>(), configured());
    let priorities: BTreeSet<u32> = regions.values().copied().collect();
    assert_eq!(priorities.len(), regions.len(), "each region has a place of its own: {regions:?}");
    assert!(priorities.iter().all(|priority| (1..=5).contains(priority)), "Front Door has 1 to 5: {priorities:?}");
}

/// `[for region in regions: …]`: what stands for each.
fn each_region(value: &Value) -> &Value {
    match value {
        Value::Each(over, each) if over == "regions" => each,
        other => panic!("not every region: {other:?}"),
    }
}

#[test]
fn front_door_reads_from_the_nearest_region_and_writes_to_the_writer() {
    let bicep = Bicep::read("front-door.bicep");
    bicep.says_that_it_was_not_compiled();
    regions_are_right(&bicep);
    let groups = bicep.of_kind("Microsoft.Cdn/profiles/originGroups");
    assert_eq!(groups.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["readGroup", "writeGroup"]);
    for (name, path) in [("readGroup", "/health/read"), ("writeGroup", "/health/write")] {
        let probe = bicep.resource(name).at("properties.healthProbeSettings");
        assert_eq!((probe.word("probePath"), probe.word("probeRequestType")), (path, "HEAD"), "{name}");
        assert_eq!(probe.word("probeProtocol"), "Https", "{name}");
        assert!((5..=30).contains(&probe.number("probeIntervalInSeconds")), "{name}");
        let balance = bicep.resource(name).at("properties.loadBalancingSettings");
        let (samples, needed) = (balance.number("sampleSize"), balance.number("successfulSamplesRequired"));
        assert!((1..samples).contains(&needed), "{name}: one probe that is lost moves nobody");
        assert_eq!(bicep.resource(name).word("properties.sessionAffinityState"), "Disabled", "{name}");
    }
    let latency = "properties.loadBalancingSettings.additionalLatencyInMilliseconds";
    assert_eq!(bicep.resource("readGroup").number(latency), 0, "nearest");

    assert_eq!(bicep.of_kind("Microsoft.Cdn/profiles/originGroups/origins").len(), 2);
    for (origins, group, priority) in
        [("readOrigins", "readGroup", "1"), ("writeOrigins", "writeGroup", "region.writePriority")]
    {
        let origin = each_region(bicep.resource(origins));
        assert_eq!((origin.word("parent"), origin.word("name")), (group, "region.name"), "{origins}");
        let properties = origin.at("properties");
        assert_eq!(properties.word("priority"), priority, "{origins}");
        assert_eq!(properties.word("hostName"), "region.hostName", "{origins}");
        assert_eq!(properties.word("originHostHeader"), "region.hostName", "{origins}");
        assert_eq!(properties.word("enabledState"), "Enabled", "{origins}");
    }

    let route = bicep.resource("route").at("properties");
    assert_eq!((route.word("originGroup.id"), route.word("forwardingProtocol")), ("readGroup.id", "HttpsOnly"));
    let rule = bicep.resource("toTheWriter").at("properties");
    let (Value::List(conditions), Value::List(actions)) = (rule.at("conditions"), rule.at("actions")) else {
        panic!("{rule:?}")
    };
    let [condition] = conditions.as_slice() else { panic!("{conditions:?}") };
    let Value::List(methods) = condition.at("parameters.matchValues") else { panic!("{condition:?}") };
    let methods: Vec<_> = methods.iter().map(|method| format!("{method:?}")).collect();
    assert_eq!(methods, [r#"Word("'GET'")"#, r#"Word("'HEAD'")"#, r#"Word("'OPTIONS'")"#]);
    assert_eq!(condition.word("parameters.negateCondition"), "true", "what is no read is a write");
    let to = "parameters.originGroupOverride.originGroup.id";
    assert_eq!(actions.iter().map(|action| action.word(to)).collect::<Vec<_>>(), ["writeGroup.id"]);
}

#[test]
fn traffic_manager_leads_reads_to_the_nearest_region_and_writes_to_the_writer() {
    let bicep = Bicep::read("traffic-manager.bicep");
    bicep.says_that_it_was_not_compiled();
    regions_are_right(&bicep);
    assert_eq!(bicep.of_kind("Microsoft.Network/trafficManagerProfiles").len(), 2);
    for (name, path, routing) in [("read", "/health/read", "Performance"), ("write", "/health/write", "Priority")] {
        let properties = bicep.resource(name).at("properties");
        assert_eq!(properties.word("trafficRoutingMethod"), routing, "{name}");
        let monitor = properties.at("monitorConfig");
        assert_eq!(monitor.word("path"), path, "{name}");
        assert_eq!(bicep.meant(monitor.word("protocol")), "HTTP", "{name}");
        assert_eq!(bicep.meant(monitor.word("port")), "9465", "{name}: the reference file's [health] listen");
        // The fast interval is 10 s, and its timeout 5 to 9 s; the other one 30 s, and 5 to 10 s.
        assert_eq!(monitor.number("intervalInSeconds"), 10, "{name}");
        assert!((5..=9).contains(&monitor.number("timeoutInSeconds")), "{name}");
        assert!(monitor.number("toleratedNumberOfFailures") <= 9, "{name}");
        let Value::List(codes) = monitor.at("expectedStatusCodeRanges") else { panic!("{monitor:?}") };
        let codes: Vec<_> = codes.iter().map(|code| (code.number("min"), code.number("max"))).collect();
        assert_eq!(codes, [(200, 200)], "{name}");
        let endpoint = each_region(properties.at("endpoints"));
        assert_eq!((endpoint.word("name"), endpoint.word("properties.target")), ("region.name", "region.target"));
        assert_eq!(endpoint.word("properties.endpointStatus"), "Enabled", "{name}");
        let of_routing =
            if name == "read" { ("endpointLocation", "region.location") } else { ("priority", "region.writePriority") };
        assert_eq!(endpoint.word(&format!("properties.{}", of_routing.0)), of_routing.1, "{name}");
    }
}

#[test]
fn what_is_read_of_bicep_is_what_it_says() {
    let text = "{\n  a: 'x'\n  // no b: 1\n  b: [\n    {\n      c: 1\n    }\n    'd'\n  ]\n  e: [for region in regions: {\n    f: region.g\n  }]\n}\n";
    let value = Reader(text).value();
    assert_eq!((value.word("a"), value.at("b")), ("x", value.at("b")));
    assert_eq!(each_region(value.at("e")).word("f"), "region.g");
    let Value::List(items) = value.at("b") else { panic!("{value:?}") };
    assert_eq!((items[0].number("c"), &items[1]), (1, &Value::Word("'d'".to_owned())));
}
