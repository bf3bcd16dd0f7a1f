//! Request targets as nobody should write them: known attacks first, then paths of the test's
//! routes bent at random. The same seed gives the same targets.

use std::collections::HashSet;

/// A request target, with one header line or none.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// What stands between method and version. `{host}` stands for the host that is asked.
    bytes: Vec<u8>,
    header: &'static str,
}

impl Target {
    /// The whole request for `host`; `more` are header lines, each with its end.
    pub(crate) fn request(&self, host: &str, more: &str) -> Vec<u8> {
        let mut request = b"GET ".to_vec();
        match self.bytes.windows(HOST.len()).position(|window| window == HOST) {
            Some(at) => {
                request.extend(&self.bytes[..at]);
                request.extend(host.as_bytes());
                request.extend(&self.bytes[at + HOST.len()..]);
            }
            None => request.extend(&self.bytes),
        }
        request.extend(format!(" HTTP/1.1\r\nHost: {host}\r\n{more}").as_bytes());
        if !self.header.is_empty() {
            request.extend(format!("{}\r\n", self.header).as_bytes());
        }
        request.extend(b"\r\n");
        request
    }

    pub(crate) fn begins_with(&self, path: &str) -> bool {
        self.bytes.starts_with(path.as_bytes())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.bytes.escape_ascii())?;
        if self.header.is_empty() { Ok(()) } else { write!(f, " [{}]", self.header.escape_debug()) }
    }
}

/// `count` targets, no two alike.
pub(crate) fn targets(count: usize, seed: u64) -> Vec<Target> {
    let mut dice = Dice(seed);
    let plain = |path: &str| Target { bytes: path.into(), header: "" };
    let mut known = PATHS.iter().chain(&KNOWN).map(|path| plain(path));
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    while targets.len() < count {
        let target = known.next().unwrap_or_else(|| generate(&mut dice));
        if seen.insert(target.clone()) {
            targets.push(target);
        }
    }
    targets
}

fn generate(dice: &mut Dice) -> Target {
    let mut path = dice.pick(&PATHS).as_bytes().to_vec();
    for _ in 0..dice.pick(&[0, 1, 1, 1, 2, 2, 3]) {
        dice.pick(&BENDS)(dice, &mut path);
    }
    if dice.one_in(6) {
        let query = dice.pick(&QUERIES).bytes();
        path.extend(query);
    }
    if dice.one_in(16) {
        let origin = dice.pick(&ORIGINS).bytes();
        path.splice(0..0, origin);
    }
    let header = if dice.one_in(4) { dice.pick(&HEADERS) } else { "" };
    Target { bytes: path, header }
}

type Bend = fn(&mut Dice, &mut Vec<u8>);

/// What is done to a path. The first ones leave it canonical, or nearly so, and stand twice, since
/// what the gate forwards is what can be read two ways.
const BENDS: [Bend; 20] = [
    escape_one,
    escape_one,
    flip_case,
    flip_case,
    append_suffix,
    append_suffix,
    transport,
    transport,
    insert_parameters,
    insert_parameters,
    prepend_walk,
    prepend_walk,
    escape_twice,
    insert_segment,
    replace_slash,
    double_slash,
    append_end,
    insert_noise,
    look_alike,
    escape_all,
];

fn escape_one(dice: &mut Dice, path: &mut Vec<u8>) {
    if let Some(at) = any_byte(dice, path) {
        let escape = if dice.one_in(2) { upper(path[at]) } else { lower(path[at]) };
        path.splice(at..=at, escape.bytes());
    }
}

fn escape_twice(dice: &mut Dice, path: &mut Vec<u8>) {
    if let Some(at) = any_byte(dice, path) {
        let escape = lower(path[at]);
        let twice = match dice.below(3) {
            0 => escape.replace('%', "%25"),
            1 => escape.replace('%', "%2525"),
            _ => escape.bytes().map(upper).collect(),
        };
        path.splice(at..=at, twice.bytes());
    }
}

/// Escapes every letter, digit and dot.
fn escape_all(_: &mut Dice, path: &mut Vec<u8>) {
    let escape = |&byte: &u8| match byte {
        b'/' | b'%' | b';' => char::from(byte).to_string(),
        _ => upper(byte),
    };
    *path = path.iter().map(escape).collect::<String>().into_bytes();
}

#[expect(clippy::ptr_arg, reason = "a bend may change the length")]
fn flip_case(dice: &mut Dice, path: &mut Vec<u8>) {
    if dice.one_in(3) {
        path.make_ascii_uppercase();
    } else if let Some(at) = any_byte(dice, path) {
        path[at] ^= if path[at].is_ascii_alphabetic() { 0x20 } else { 0 };
    }
}

fn append_suffix(dice: &mut Dice, path: &mut Vec<u8>) {
    path.extend(dice.pick(&SUFFIXES).bytes());
}

fn append_end(dice: &mut Dice, path: &mut Vec<u8>) {
    path.extend(dice.pick(&ENDS).bytes());
}

/// Wraps the path as Next.js addresses its pages' data and languages.
fn transport(dice: &mut Dice, path: &mut Vec<u8>) {
    let prefix = dice.pick(&TRANSPORTS);
    path.splice(0..0, prefix.bytes());
    if prefix.starts_with("/_next") && !dice.one_in(4) {
        path.extend(b".json");
    }
}

fn insert_parameters(dice: &mut Dice, path: &mut Vec<u8>) {
    let parameters = dice.pick(&[";", ";x", ";x=1", ";a=b;c", ";/", "/;x", ";.rsc", ";x=%2e"]);
    insert_at_segment_end(dice, path, parameters);
}

fn insert_segment(dice: &mut Dice, path: &mut Vec<u8>) {
    let segment = dice.pick(&[
        "/.",
        "/%2e",
        "/x/..",
        "/x/%2e%2e",
        "/x/.%2e",
        "/x/..;",
        "/x/%252e%252e",
        "/.;x",
        "/./.",
        "/x/%2E.",
        "/...",
        "/x/..%00",
        "/x/\t..",
    ]);
    insert_at_segment_end(dice, path, segment);
}

fn replace_slash(dice: &mut Dice, path: &mut Vec<u8>) {
    let slashes: Vec<usize> = (0..path.len()).filter(|&at| path[at] == b'/').collect();
    if slashes.is_empty() {
        return;
    }
    let at = dice.pick(&slashes);
    let other = dice.pick(&[
        "\\",
        "%2f",
        "%2F",
        "%5c",
        "/%2f",
        "%252f",
        "%255c",
        "/\\",
        "%c0%af",
        "%EF%BC%8F",
        "%E2%81%84",
    ]);
    path.splice(at..=at, other.bytes());
}

fn double_slash(dice: &mut Dice, path: &mut Vec<u8>) {
    let prefix = dice.pick(&["/", "//", "//x", "/\\x", "//x.example.com:80", "/%09/", "/\t/"]);
    if dice.one_in(2) {
        path.splice(0..0, prefix.bytes());
    } else {
        insert_at_segment_end(dice, path, "/");
    }
}

/// A byte, or an escape of one, that some reader drops.
fn insert_noise(dice: &mut Dice, path: &mut Vec<u8>) {
    let noise: &[u8] = dice.pick(&[
        b"\t" as &[u8],
        b"\x0b",
        b"\x0c",
        b"\0",
        b" ",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xc2\xa0",
        b"\x85",
        b"%00",
        b"%09",
        b"%0a",
        b"%0d",
        b"%20",
        b"%7f",
        b"%85",
        b"%ff",
        b"%C2%AD",
        b"%E2%80%8B",
        b"%EF%BB%BF",
        b"%",
        b"%u0061",
        b"+",
        b"*",
        b"#",
        b"%23",
        b"^",
        b"|",
        b"\"",
        b"<",
        b"~",
        b"@",
    ]);
    let at = dice.below(path.len() + 1);
    path.splice(at..at, noise.iter().copied());
}

/// Letters that some reader folds or decodes to the plain one.
fn look_alike(dice: &mut Dice, path: &mut Vec<u8>) {
    let Some(at) = any_byte(dice, path) else { return };
    let byte = path[at];
    let full_width = char::from_u32(u32::from(byte) + 0xFEE0).unwrap_or('a');
    let other: Vec<u8> = match (dice.below(4), byte) {
        (0, b's' | b'S') => "%C5%BF".into(),
        (0, b'i' | b'I') => "%C4%B1".into(),
        (0, b'k' | b'K') => "%E2%84%AA".into(),
        (0 | 1, _) => full_width.to_string().bytes().map(upper).collect::<String>().into(),
        (2, _) => full_width.to_string().into(),
        // Two and three bytes where one would do.
        (_, b'a'..=b'o') if dice.one_in(2) => {
            format!("%e0%81%{byte:02x}", byte = byte | 0x80).into()
        }
        (_, _) => format!("%{:02X}%{:02X}", 0xC0 | (byte >> 6), 0x80 | (byte & 0x3F)).into(),
    };
    path.splice(at..=at, other);
}

/// Goes into a public folder, and out of it again.
fn prepend_walk(dice: &mut Dice, path: &mut Vec<u8>) {
    path.splice(0..0, dice.pick(&WALKS).bytes());
}

fn insert_at_segment_end(dice: &mut Dice, path: &mut Vec<u8>, text: &str) {
    let ends: Vec<usize> =
        (1..=path.len()).filter(|&at| at == path.len() || path[at] == b'/').collect();
    if !ends.is_empty() {
        let at = dice.pick(&ends);
        path.splice(at..at, text.bytes());
    }
}

/// The place of a byte that is no delimiter.
fn any_byte(dice: &mut Dice, path: &[u8]) -> Option<usize> {
    let plain = |&at: &usize| path[at].is_ascii_alphanumeric() || path[at] == b'.';
    let places: Vec<usize> = (0..path.len()).filter(plain).collect();
    (!places.is_empty()).then(|| dice.pick(&places))
}

fn upper(byte: u8) -> String {
    format!("%{byte:02X}")
}

fn lower(byte: u8) -> String {
    format!("%{byte:02x}")
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let below = (bits ^ (bits >> 31)) % u64::try_from(end).expect("a length fits");
        usize::try_from(below).expect("it is below a length")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

const HOST: &[u8] = b"{host}";

/// A path of every route; what stands twice is bent twice as often.
const PATHS: [&str; 18] = [
    "/",
    "/about",
    "/public/x",
    "/shop/7",
    "/shop/7",
    "/files/open.txt",
    "/admin",
    "/admin/users",
    "/admin/",
    "/dashboard",
    "/dashboard/a/b",
    "/api/private",
    "/api/private",
    "/shop/7/edit",
    "/shop/secret",
    "/shop/secret",
    "/caf%C3%A9",
    "/files/secret/plan.txt",
];

/// Harmless spellings of each guarded page, and attacks that had a name.
const KNOWN: [&str; 40] = [
    "/%61dmin",
    "/dash%62oard",
    "/api/privat%65",
    "/shop/7/edi%74",
    "/shop/%73ecret",
    "/files/%73ecret/plan.txt",
    "/public/../admin",
    "/public/..%2fadmin",
    "/public/%2e%2e/admin",
    "/public/%252e%252e/admin",
    "/public/..;/admin",
    "/public/..\\admin",
    "/public/..%5cadmin",
    "/public/..%c0%afadmin",
    "/admin%23/public",
    "/admin#/public",
    "/admin%3f/public",
    "/admin?/public",
    "/admin;/public",
    "/admin%3b/public",
    "/admin%00/public",
    "/admin%2f",
    "/%2561dmin",
    "//admin",
    "///admin",
    "//x/admin",
    "/\\x/admin",
    "/\t/x/admin",
    "http://{host}/admin",
    "http://other.example.net/admin",
    "http:/admin",
    "admin",
    "*",
    "/admin.rsc",
    "/admin.segments/$c$children/__PAGE__.segment.rsc",
    "/admin.segments/_tree.segment.rsc",
    "/_next/data/b1/admin.json",
    "/_next/data/b1/en/admin.json",
    "/de/admin",
    "/shop/7?nxtPid=secret",
];

const SUFFIXES: [&str; 14] = [
    ".rsc",
    ".json",
    ".segments/_tree.segment.rsc",
    ".segments/_full.segment.rsc",
    ".segments/admin/__PAGE__.segment.rsc",
    ".segments/$c$children/__PAGE__.segment.rsc",
    ".rsc.json",
    ".segments/.segment.rsc",
    "/",
    "/x",
    "/index",
    "/index.html",
    ".txt",
    ".prefetch.rsc",
];

const ENDS: [&str; 18] = [
    "//", "/.", "/..", "/x/..", "%20", "%09", "%00", "%0a", ".", "..", "~", ";", "#", "#x", "%23x",
    "%3fx", "%2f", "\\",
];

const TRANSPORTS: [&str; 14] = [
    "/_next/data/b1",
    "/_next/data/b1/en",
    "/_next/data/b1/de",
    "/_next/data/other",
    "/_next/data/b1/index",
    "/_next/data//",
    "/_next/data",
    "/en",
    "/de",
    "/DE",
    "/fr",
    "/de/en",
    "/index",
    "/_next/../",
];

const WALKS: [&str; 16] = [
    "/public/..",
    "/public/../..",
    "/public/x/../..",
    "/public/%2e%2e",
    "/public/.%2E",
    "/public/..%2f..",
    "/public/%2e%2e%2f",
    "/public/..;",
    "/public/..;x",
    "/public/..%00",
    "/public/%252e%252e",
    "/public/..\\",
    "/files/x/..%2f..",
    "/files/..",
    "/about/..",
    "/.",
];

/// The `nxt` keys name the parameter of `/shop/:id`, as Next.js names it to itself.
const QUERIES: [&str; 16] = [
    "?",
    "?x=1",
    "?/about",
    "??",
    "?path=/about",
    "?nxtPid=secret",
    "?x&nxtPid=secret",
    "?nxtPid=%73ecret&x",
    "?%6ext%50id=secret",
    "?nxtPpath=admin",
    "?nxtIid=secret",
    "?__nextLocale=de",
    "?__nextDataReq=1",
    "?_rsc=1",
    "?#/about",
    "?x=1;nxtPid=secret",
];

const ORIGINS: [&str; 9] = [
    "http://{host}",
    "HTTP://{host}",
    "http://{host}:80",
    "https://{host}",
    "http://other.example.net",
    "http://me@{host}",
    "http:",
    "//{host}",
    "x:",
];

const HEADERS: [&str; 20] = [
    "X-Original-URL: /admin",
    "X-Original-URI: /admin",
    "X-Rewrite-URL: /admin",
    "X-Forwarded-Uri: /admin",
    "X-Forwarded-Prefix: /admin",
    "X_Original_URL: /admin",
    "X-Middleware-Subrequest: middleware:middleware:middleware:middleware:middleware",
    "X-Middleware-Rewrite: /admin",
    "X-Middleware-Next: 1",
    "X-Invoke-Path: /admin",
    "X-Matched-Path: /admin",
    "X-Now-Route-Matches: id=secret",
    "X-Nextjs-Data: 1",
    "Rsc: 1",
    "Rsc: 1\r\nNext-Router-Prefetch: 1",
    "Rsc: 1\r\nNext-Router-Prefetch: 1\r\nNext-Router-Segment-Prefetch: /_tree",
    "Rsc: 1\r\nNext-Router-Prefetch: 1\r\nNext-Router-Segment-Prefetch: /admin/__PAGE__",
    "Next-Url: /admin",
    "X-Forwarded-Host: other.example.net",
    "Connection: x-forwarded-host, host",
];
