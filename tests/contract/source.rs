//! Reads Rust sources just far enough to see which paths they name.

use std::path::{Path, PathBuf};

/// Root of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One file below `src/`.
pub struct Source {
    /// As `sip/transaction/mod.rs`.
    pub name: String,
    pub text: String,
    /// Without comments and the contents of strings.
    pub code: String,
    /// As `code`, without what only tests see.
    pub product: String,
}

impl Source {
    fn new(name: String, text: String) -> Source {
        let code = bare(&text);
        let product = if is_test_file(&name) { String::new() } else { without_tests(&code) };
        Source { name, text, code, product }
    }

    /// The first folder (or file) below `src/`: the room.
    pub fn room(&self) -> &str {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// True in the shell of a domain.
    pub fn is_shell(&self) -> bool {
        self.name.contains("/io/") || self.name.ends_with("/io.rs")
    }
}

/// All Rust files of a folder of the project, in order.
pub fn sources(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let mut files = Vec::new();
    walk(&base, &mut files);
    files.sort();
    let sources: Vec<_> = files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(&base).expect("below the folder").to_string_lossy().into_owned();
            Source::new(name, std::fs::read_to_string(&file).expect("a readable source"))
        })
        .collect();
    assert!(!sources.is_empty(), "no source in {folder}");
    sources
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_test_file(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    file == "tests.rs" || file.ends_with("_tests.rs") || name.contains("/tests/")
}

/// Blanks comments and the contents of strings and characters, keeping lines where they are.
fn bare(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let blank = |out: &mut Vec<u8>, part: &[u8]| {
        out.extend(part.iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }))
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            rest.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest, at.checked_sub(1).map(|before| bytes[before])) {
            length
        } else if rest[0] == b'"' {
            quoted(rest, b'"')
        } else if rest[0] == b'\'' && is_character(rest) {
            quoted(rest, b'\'')
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        blank(&mut out, &rest[..length]);
        at += length;
    }
    String::from_utf8(out).expect("only whole characters are blanked")
}

/// Length of `r"…"`, `r#"…"#` and their byte forms.
fn raw_string(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    let start = if rest.starts_with(b"br") { 2 } else { 1 };
    if rest[start - 1] != b'r' {
        return None;
    }
    let hashes = rest[start..].iter().take_while(|b| **b == b'#').count();
    if rest.get(start + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = start + hashes + 1;
    let found = rest[body..].windows(end.len()).position(|window| window == end.as_slice());
    Some(found.map_or(rest.len(), |found| body + found + end.len()))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Tells `'a'` from the lifetime `'a`.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            rest.get(1 + width) == Some(&b'\'')
        }
        None => false,
    }
}

/// Takes away each item behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(found) = rest.find("#[cfg(test)]") {
        out += &rest[..found];
        let item = &rest[found..];
        let end = item_end(item);
        rest = &item[end..];
    }
    out + rest
}

/// The end of the item that begins `code`: its closing brace, or its semicolon.
fn item_end(code: &str) -> usize {
    let mut depth = 0_i32;
    for (index, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            b';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path that code names, imports written out: `use crate::{sip::auth, types}` is `crate::sip::auth` and
/// `crate::types`.
pub fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let words = tokens(code);
    let mut at = 0;
    while at < words.len() {
        let starts_path = is_name(words[at]) && words.get(at + 1) == Some(&"::");
        let continues = at > 0 && words[at - 1] == "::";
        if starts_path && !continues {
            at = path(&words, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path (with its braces) from `at`; gives where it ends.
fn path(words: &[&str], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut whole = prefix.to_owned();
    loop {
        match words.get(at) {
            Some(&"{") if whole.ends_with("::") => {
                at += 1;
                while words.get(at).is_some_and(|word| *word != "}") {
                    if words[at] == "," {
                        at += 1;
                    } else {
                        let next = path(words, at, &whole, found);
                        // Something that is no import at all: leave it.
                        at = if next == at { at + 1 } else { next };
                    }
                }
                return at + 1;
            }
            Some(word) if is_name(word) || *word == "*" => {
                whole += word;
                at += 1;
                if words.get(at) == Some(&"::") {
                    whole += "::";
                    at += 1;
                } else {
                    found.push(whole);
                    // `use a::b as c`
                    return if words.get(at) == Some(&"as") { at + 2 } else { at };
                }
            }
            _ => {
                found.push(whole.trim_end_matches("::").to_owned());
                return at;
            }
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// Names, `::`, braces and commas; everything else is one word that ends a path.
fn tokens(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        if !first.is_whitespace() {
            words.push(word);
        }
        rest = after;
    }
    words
}

#[test]
fn imports_are_written_out() {
    let code = bare(
        r##"
        use crate::{sip::{auth, io::*}, types as words};
        // use crate::media;
        const TEXT: &str = "crate::billing"; const RAW: &str = r#"crate::store "quoted""#;
        fn f<'a>(x: &'a u8, c: char) -> bool { c == '"' && std::time::Instant::now() > y }
        "##,
    );
    let expected = ["crate::sip::auth", "crate::sip::io::*", "crate::types", "std::time::Instant::now"]
        .map(str::to_owned);
    assert_eq!(paths(&code), expected);
}

#[test]
fn what_only_tests_see_is_taken_away() {
    let code =
        "use a::b;\n#[cfg(test)]\nmod tests { fn f() { x::y() } }\nuse c::d;\n#[cfg(test)]\nuse e::f;\n";
    assert_eq!(paths(&without_tests(code)), ["a::b", "c::d"].map(str::to_owned));
}
