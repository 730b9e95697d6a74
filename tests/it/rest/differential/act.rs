//! What is done to both servers, drawn from a seed.

use tablerelay::runtime::Runtime;

/// A row by its place.
pub type Place = (&'static str, String, String);

/// One request, but for what differs by server: addresses and ETags.
#[derive(Debug, Clone)]
pub enum Act {
    Write(Op, Option<&'static str>),
    Transaction(Vec<Op>),
    Get {
        place: Place,
        select: Option<&'static str>,
        metadata: &'static str,
    },
    BatchedGet(Place),
    Query {
        table: &'static str,
        filter: Option<String>,
        top: Option<u16>,
        select: Option<&'static str>,
        metadata: &'static str,
    },
    CreateTable(&'static str),
    DeleteTable(&'static str),
    ListTables {
        filter: Option<String>,
        top: Option<u16>,
    },
    /// A request that cannot be right: method, path, body.
    Wrong(&'static str, &'static str, &'static str),
}

/// A write of a row.
#[derive(Debug, Clone)]
pub struct Op {
    pub verb: Verb,
    pub place: Place,
    pub on: On,
    /// JSON fields, each with a comma before it.
    pub properties: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Put,
    Merge,
    Delete,
}

/// What `If-Match` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Nothing,
    Present,
    /// The ETag of the server's last answer about the row; a stale one where there was none.
    Current,
    Stale,
}

/// `Missing` is hardly ever created.
pub const TABLES: [&str; 3] = ["Alpha", "Beta", "Missing"];
const PARTITIONS: [&str; 5] = ["p", "it's", "日本 😀", "", "a b+c%27&d"];
const ROWS: [&str; 12] = ["a", "b", "c", "B", "it's", "''", "100 %", "a,b", "é😀", "", "..", "a b+c"];
const ODD: [&str; 8] = ["',", "a/b", "a\\b", "#", "?", "tab\t", "\u{7f}", "\u{2028}"];

/// Values by their JSON, each with its type where JSON does not tell it.
const VALUES: [(&str, &str); 30] = [
    ("", r#""text""#),
    ("", r#""""#),
    ("", r#""it's \"é😀\" \\ \n""#),
    ("", r#""\u00e9\ud83d\ude00""#),
    ("", "0"),
    ("", "7"),
    ("", "-2147483648"),
    ("", "true"),
    ("", "false"),
    ("", "null"),
    ("", "1.5"),
    ("Edm.String", r#""2026-11-22T12:18:00Z""#),
    ("Edm.Boolean", "true"),
    ("Edm.Int32", "8"),
    ("Edm.Int64", r#""9223372036854775807""#),
    ("Edm.Int64", r#""-5""#),
    ("Edm.Double", "1.0"),
    ("Edm.Double", "3"),
    ("Edm.Double", "1e300"),
    ("Edm.Double", r#""NaN""#),
    ("Edm.Double", r#""-Infinity""#),
    ("Edm.Double", r#""2.5""#),
    ("Edm.DateTime", r#""2026-11-22T12:18:00.1234567Z""#),
    ("Edm.DateTime", r#""2026-11-22T12:18:00Z""#),
    ("Edm.Guid", r#""c9da6455-213d-42c9-9a79-3e9149a57833""#),
    ("Edm.Binary", r#""AAECAw==""#),
    ("Edm.Binary", r#""""#),
    ("", "-1.25e-7"),
    ("Edm.Int64", "null"),
    ("", r#""NaN""#),
];

/// Values that no row can have.
const BAD_VALUES: [(&str, &str); 9] = [
    ("", "[1]"),
    ("", r#"{"a":1}"#),
    ("", "2147483648"),
    ("Edm.Int64", r#""9223372036854775808""#),
    ("Edm.Int64", r#""seven""#),
    ("Edm.DateTime", r#""yesterday""#),
    ("Edm.Guid", r#""no guid""#),
    ("Edm.Binary", r#""%%%""#),
    ("Edm.Decimal", "1"),
];

const FILTERS: [&str; 34] = [
    "PartitionKey eq 'p'",
    "PartitionKey eq 'it''s'",
    "PartitionKey eq '日本 😀'",
    "PartitionKey eq ''",
    "PartitionKey eq 'p' and RowKey eq 'a'",
    "PartitionKey eq 'p' and RowKey ge 'a' and RowKey le 'b'",
    "PartitionKey eq 'p' and RowKey gt 'a' and RowKey lt 'c'",
    "PartitionKey ge 'i' and PartitionKey lt 'q'",
    "PartitionKey gt 'it''s'",
    "RowKey eq '100 %'",
    "RowKey eq '''''' or RowKey eq 'a b+c'",
    "A eq 7",
    "A gt 0 and A lt 100",
    "not (A eq 7)",
    "A eq 'text' or B eq true",
    "B eq true",
    "C ne 'text'",
    "C eq 9223372036854775807L",
    "C lt 0L",
    "D eq 1.5",
    "D ge 1.0 and D le 3.0",
    "D gt 1e299",
    "E eq datetime'2026-11-22T12:18:00.1234567Z'",
    "E gt datetime'2026-11-22T12:00:00Z'",
    "E eq guid'c9da6455-213d-42c9-9a79-3e9149a57833'",
    "E eq X'00010203'",
    "E eq binary'00010203'",
    "(A eq 7 or B eq false) and not (C eq 'text')",
    "A eq",
    "A eq 'open",
    "eq 7",
    "A = 7",
    "(A eq 7",
    "A eq 7 and",
];

const WRONG: [(&str, &str, &str); 14] = [
    ("POST", "/Alpha", "{"),
    ("POST", "/Alpha", "[]"),
    ("POST", "/Alpha", r#"{"PartitionKey":"p"}"#),
    ("POST", "/Alpha", r#"{"PartitionKey":1,"RowKey":"r"}"#),
    ("PUT", "/Alpha(PartitionKey='p',RowKey='wrong')", "{"),
    ("PUT", "/Alpha(PartitionKey='p',RowKey='wrong')", r#"{"PartitionKey":"q","RowKey":"wrong"}"#),
    ("PUT", "/Alpha(PartitionKey='p')", "{}"),
    ("GET", "/Alpha(PartitionKey='it's',RowKey='r')", ""),
    ("POST", "/Tables", "{}"),
    ("POST", "/Tables", r#"{"TableName":"a-b"}"#),
    ("POST", "/Tables", r#"{"TableName":"ab"}"#),
    ("GET", "/Al-pha", ""),
    ("DELETE", "/Tables('Never')", ""),
    ("POST", "/$batch", "no batch at all"),
];

const METADATA: [&str; 3] = ["nometadata", "minimalmetadata", "fullmetadata"];
const NAMES: [&str; 5] = ["A", "B", "C", "D", "E"];

/// Draws acts.
pub struct Source(pub Runtime);

impl Source {
    fn below(&mut self, most: usize) -> usize {
        (self.0.random() % most as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// One time in so many.
    fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// The next act.
    pub fn act(&mut self) -> Act {
        match self.below(100) {
            0..42 => {
                let prefer = self.one(&[None, Some("return-no-content"), Some("return-content")]);
                Act::Write(self.op(), prefer)
            }
            42..62 => Act::Transaction(self.transaction()),
            62..70 => {
                let select = self.one(&[None, None, Some("A"), Some("RowKey,B")]);
                Act::Get { place: self.place(), select, metadata: self.one(&METADATA) }
            }
            70..73 => Act::BatchedGet(self.place()),
            73..89 => {
                let filter = (!self.rarely(6)).then(|| self.one(&FILTERS).to_owned());
                let top = self.one(&[None, None, Some(1), Some(2), Some(5), Some(1_000)]);
                let select = self.one(&[None, None, Some("A,B"), Some("RowKey,PartitionKey,C")]);
                Act::Query { table: self.table(), filter, top, select, metadata: self.one(&METADATA) }
            }
            89..91 => Act::CreateTable(self.one(&TABLES)),
            91 => Act::DeleteTable(self.one(&TABLES)),
            92..95 => {
                let filter = self.one(&[None, Some("TableName eq 'Alpha'"), Some("TableName ge 'B'")]);
                Act::ListTables { filter: filter.map(str::to_owned), top: self.one(&[None, Some(1)]) }
            }
            _ => {
                let (method, path, body) = self.one(&WRONG);
                Act::Wrong(method, path, body)
            }
        }
    }

    fn table(&mut self) -> &'static str {
        if self.rarely(25) { "Missing" } else { self.one(&["Alpha", "Alpha", "Beta"]) }
    }

    fn place(&mut self) -> Place {
        let partition = if self.rarely(3) { self.one(&PARTITIONS) } else { "p" };
        let row = if self.rarely(20) { self.one(&ODD) } else { self.one(&ROWS) };
        (self.table(), partition.to_owned(), row.to_owned())
    }

    fn op(&mut self) -> Op {
        let verb =
            self.one(&[Verb::Insert, Verb::Insert, Verb::Put, Verb::Put, Verb::Merge, Verb::Merge, Verb::Delete]);
        let on = match verb {
            Verb::Insert => On::Nothing,
            Verb::Delete if !self.rarely(12) => self.one(&[On::Present, On::Current, On::Current, On::Stale]),
            Verb::Delete => On::Nothing,
            Verb::Put | Verb::Merge => {
                self.one(&[On::Nothing, On::Nothing, On::Present, On::Current, On::Current, On::Stale])
            }
        };
        Op { verb, place: self.place(), on, properties: self.properties() }
    }

    fn properties(&mut self) -> String {
        if self.rarely(40) {
            return self.beyond();
        }
        let mut text = String::new();
        for name in NAMES {
            if !self.rarely(3) {
                continue;
            }
            let (edm, value) = if self.rarely(50) { self.one(&BAD_VALUES) } else { self.one(&VALUES) };
            if !edm.is_empty() {
                text += &format!(r#","{name}@odata.type":"{edm}""#);
            }
            text += &format!(r#","{name}":{value}"#);
        }
        text
    }

    /// What is at a limit, or beyond it.
    fn beyond(&mut self) -> String {
        let many = |count: usize| (0..count).map(|n| format!(r#","P{n}":{n}"#)).collect::<String>();
        match self.below(8) {
            0 => many(252),
            1 => many(253),
            2 => format!(r#","A":"{}""#, "s".repeat(32 * 1024)),
            3 => format!(r#","A":"{}""#, "s".repeat(32 * 1024 + 1)),
            4 => format!(r#","{}":1"#, "n".repeat(255)),
            5 => format!(r#","{}":1"#, "n".repeat(256)),
            6 => r#","a-b":1"#.to_owned(),
            _ => (0..17).map(|n| format!(r#","S{n}":"{}""#, "s".repeat(32_000))).collect(),
        }
    }

    fn transaction(&mut self) -> Vec<Op> {
        let count = if self.rarely(30) { 101 } else { 1 + self.below(5) };
        let first = self.place();
        let mut ops: Vec<Op> = Vec::new();
        for n in 0..count {
            let mut op = self.op();
            (op.place.0, op.place.1) = (first.0, first.1.clone());
            if count > 100 {
                op.place.2 = format!("n{n}");
                op.properties = String::new();
            }
            // A row twice is refused; once in a while it is tried.
            let twice = ops.iter().any(|other| other.place == op.place);
            if !twice || self.rarely(15) {
                ops.push(op);
            }
        }
        if self.rarely(40) {
            let mut op = self.op();
            op.place.0 = first.0;
            op.place.1 = "other".to_owned();
            ops.push(op);
        }
        ops
    }
}
