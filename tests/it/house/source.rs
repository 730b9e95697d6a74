//! A Rust source file, taken apart just far enough for the rules: code, literals and comments of each line, which lines
//! are tests, where each function begins and ends.

/// One file.
#[derive(Debug)]
pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    pub lines: Vec<Line>,
    pub functions: Vec<Function>,
}

/// One line, by what stands in it.
#[derive(Debug, Default, Clone)]
pub struct Line {
    /// Without comments, and with the content of literals taken out.
    pub code: String,
    /// The content of string literals.
    pub literal: String,
    /// The text of comments.
    pub comment: String,
    /// Whether it is compiled for tests only.
    pub test: bool,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Index of the line of `fn`.
    pub first: usize,
    /// Index of the line of the closing brace.
    pub last: usize,
    /// Index of its first attribute, or of `fn`.
    pub attributes: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut lines = Lexer::run(text);
        mark_tests(&mut lines);
        if is_test_path(path) {
            lines.iter_mut().for_each(|line| line.test = true);
        }
        let functions = functions(&lines);
        Self { path: path.to_owned(), lines, functions }
    }

    /// The first folder under `src`, or the file beside it without its ending: `model`, `lib`, `main`.
    pub fn module(&self) -> Vec<&str> {
        let Some(path) = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else {
            return Vec::new();
        };
        path.split('/').filter(|part| *part != "mod").collect()
    }

    /// Lines that are no tests, with their numbers from 1.
    pub fn shipped(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.numbered().filter(|(_, line)| !line.test)
    }

    /// All lines with their numbers from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether the line of that number, or the one above it, has a comment that says why.
    pub fn is_explained(&self, number: usize) -> bool {
        let has = |index: usize| self.lines.get(index).is_some_and(|line| !line.comment.trim().is_empty());
        has(number - 1) || (number >= 2 && has(number - 2) && self.lines[number - 2].code.trim().is_empty())
    }

    /// The innermost function around the line of that number.
    pub fn function_at(&self, number: usize) -> Option<&Function> {
        let around = |function: &&Function| (function.attributes..=function.last).contains(&(number - 1));
        self.functions.iter().filter(around).max_by_key(|function| function.first)
    }
}

/// Whole files of tests, by their place.
fn is_test_path(path: &str) -> bool {
    ["tests/", "benches/", "examples/", "fuzz/"].iter().any(|folder| path.starts_with(folder))
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    BlockComment(usize),
    Literal,
    RawLiteral(usize),
}

struct Lexer<'a> {
    rest: &'a [char],
    state: State,
    lines: Vec<Line>,
}

impl Lexer<'_> {
    fn run(text: &str) -> Vec<Line> {
        let chars: Vec<char> = text.chars().collect();
        let mut lexer = Lexer { rest: &chars, state: State::Code, lines: vec![Line::default()] };
        while let Some(first) = lexer.rest.first().copied() {
            if first == '\n' {
                lexer.lines.push(Line::default());
                lexer.rest = &lexer.rest[1..];
                if lexer.state == State::LineComment {
                    lexer.state = State::Code;
                }
            } else {
                let taken = lexer.step(first);
                lexer.rest = &lexer.rest[taken.min(lexer.rest.len())..];
            }
        }
        if text.ends_with('\n') {
            lexer.lines.pop();
        }
        lexer.lines
    }

    fn line(&mut self) -> &mut Line {
        self.lines.last_mut().expect("there is one from the start")
    }

    fn next_is(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(index, c)| self.rest.get(index) == Some(&c))
    }

    /// Takes what begins with `first`; returns how many characters that was.
    fn step(&mut self, first: char) -> usize {
        match self.state {
            State::Code => return self.code(first),
            State::LineComment => self.line().comment.push(first),
            State::BlockComment(depth) if self.next_is("*/") => {
                self.state = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
                return 2;
            }
            State::BlockComment(depth) if self.next_is("/*") => {
                self.state = State::BlockComment(depth + 1);
                return 2;
            }
            State::BlockComment(_) => self.line().comment.push(first),
            State::Literal if first == '\\' && self.rest.get(1) != Some(&'\n') => {
                self.line().literal.push(first);
                return 2;
            }
            State::Literal if first == '"' => return self.end_literal(1),
            State::RawLiteral(hashes) if self.next_is(&format!("\"{}", "#".repeat(hashes))) => {
                return self.end_literal(1 + hashes);
            }
            State::Literal | State::RawLiteral(_) => self.line().literal.push(first),
        }
        1
    }

    fn end_literal(&mut self, taken: usize) -> usize {
        self.state = State::Code;
        self.line().literal.push(' ');
        self.line().code.push('"');
        taken
    }

    fn code(&mut self, first: char) -> usize {
        if self.next_is("//") {
            self.state = State::LineComment;
            return 2;
        }
        if self.next_is("/*") {
            self.state = State::BlockComment(1);
            return 2;
        }
        let in_word = self.line().code.chars().last().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let byte_prefix = self.line().code.ends_with('b');
        if first == 'r' && (!in_word || byte_prefix) {
            let hashes = self.rest[1..].iter().take_while(|c| **c == '#').count();
            if self.rest.get(1 + hashes) == Some(&'"') {
                self.state = State::RawLiteral(hashes);
                self.line().code.push('"');
                return 2 + hashes;
            }
        }
        if first == '"' {
            self.state = State::Literal;
        }
        if first == '\'' {
            let taken = char_literal(self.rest);
            if taken > 1 {
                self.line().code.push_str("' '");
                return taken;
            }
        }
        self.line().code.push(first);
        1
    }
}

/// The length of a character literal that begins here, 1 where it is a lifetime.
fn char_literal(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') {
        return rest.iter().skip(3).position(|c| *c == '\'').map_or(1, |end| end + 4);
    }
    if rest.get(2) == Some(&'\'') { 3 } else { 1 }
}

/// Marks what follows `#[cfg(test)]`, to the end of the item.
fn mark_tests(lines: &mut [Line]) {
    let mut depth = 0;
    let mut pending = false;
    let mut inside: Option<usize> = None;
    for line in lines {
        let opens = line.code.contains("#[cfg(test)]") || line.code.contains("#[cfg(all(test");
        if opens && inside.is_none() {
            pending = true;
        }
        line.test = pending || inside.is_some();
        for c in line.code.chars() {
            match c {
                '{' => {
                    if pending {
                        (pending, inside) = (false, Some(depth));
                    }
                    depth += 1;
                }
                '}' => {
                    depth -= usize::from(depth > 0);
                    if inside == Some(depth) {
                        inside = None;
                    }
                }
                ';' if pending => pending = false,
                _ => {}
            }
        }
    }
}

fn functions(lines: &[Line]) -> Vec<Function> {
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some((at, name)) = function_name(&line.code) else { continue };
        let Some(last) = end_of_body(&lines[first..], at) else { continue };
        let above = lines[..first].iter().rev();
        let attributes = above.take_while(|line| line.code.trim_start().starts_with("#[")).count();
        found.push(Function { name, first, last: first + last, attributes: first - attributes });
    }
    found
}

/// The name behind the first `fn` of a line and where it begins.
fn function_name(code: &str) -> Option<(usize, String)> {
    let at = match code.strip_prefix("fn ") {
        Some(_) => 3,
        None => code.find(" fn ")? + 4,
    };
    let name: String = code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some((at, name))
}

/// How many lines further the body ends that begins after `start` of the first line; `None` without a body.
fn end_of_body(lines: &[Line], start: usize) -> Option<usize> {
    let (mut round, mut braces) = (0i32, 0i32);
    for (index, line) in lines.iter().enumerate() {
        let code = if index == 0 { &line.code[start..] } else { &line.code[..] };
        for c in code.chars() {
            match c {
                '(' | '[' => round += 1,
                ')' | ']' => round -= 1,
                ';' if round == 0 && braces == 0 => return None,
                '{' => braces += 1,
                '}' => {
                    braces -= 1;
                    if braces == 0 {
                        return Some(index);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

#[test]
fn code_literals_and_comments_are_told_apart() {
    let text = "let a = \"x // y\"; // why\nlet b = r#\"un\"wrap\"#; /* one\ntwo */ let c = '\"'; let d: &'a str = b\"\\\"\";\n";
    let source = Source::new("src/x/y.rs", text);
    let code: Vec<_> = source.lines.iter().map(|line| line.code.as_str()).collect();
    assert_eq!(code, ["let a = \"\"; ", "let b = \"\"; ", " let c = ' '; let d: &'a str = b\"\";"]);
    assert_eq!(source.lines[0].literal, "x // y ");
    assert_eq!(source.lines[0].comment, " why");
    assert_eq!(source.lines[1].literal, "un\"wrap ");
    assert_eq!(source.lines[2].comment, "two ");
    assert_eq!(source.module(), ["x", "y"]);
}

#[test]
fn what_follows_cfg_test_is_a_test() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
    let source = Source::new("src/x.rs", text);
    let shipped: Vec<_> = source.shipped().map(|(number, _)| number).collect();
    assert_eq!(shipped, [1, 6, 9]);
    assert_eq!(Source::new("tests/it/x.rs", text).shipped().count(), 0);
}

#[test]
fn a_function_knows_its_ends() {
    let text = "trait T {\n    fn a();\n}\n#[test]\n#[x]\nasync fn b(\n    c: [u8; 3],\n) -> u8 {\n    if true { 1 } else { 2 }\n}\n";
    let source = Source::new("src/x.rs", text);
    assert_eq!(source.functions, [Function { name: "b".into(), first: 5, last: 9, attributes: 3 }]);
    assert_eq!(source.function_at(9).map(|function| function.name.as_str()), Some("b"));
    assert_eq!(source.function_at(2), None);
}
