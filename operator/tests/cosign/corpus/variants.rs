//! A private key in many spellings: what of them is one is cosign's to say.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use signingkeyring_operator::keys::KeyPair;

const BEGIN: &str = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED SIGSTORE PRIVATE KEY-----";

/// A spelling.
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) pem: Vec<u8>,
}

/// The base64 of JSON in lines of a length.
fn lines(json: &[u8], length: usize, end: &str) -> String {
    let base64 = Base64::encode_string(json);
    let lines = base64.as_bytes().chunks(length).map(|line| str::from_utf8(line).unwrap());
    lines.collect::<Vec<_>>().join(end)
}

fn pem(json: &[u8]) -> String {
    format!("{BEGIN}\n{}\n{END}\n", lines(json, 64, "\n"))
}

fn json_of(pair: &KeyPair) -> String {
    let text = str::from_utf8(pair.encrypted_pem()).unwrap();
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    String::from_utf8(Base64::decode_vec(&base64).unwrap()).unwrap()
}

/// Line lengths, line ends, and whether the last line has one.
fn layouts(json: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for length in [1, 63, 64, 76, 100_000] {
        for (name, end) in [("LF", "\n"), ("CRLF", "\r\n"), ("CR", "\r"), ("LF LF", "\n\n")] {
            for last in [end, ""] {
                let body = lines(json.as_bytes(), length, end);
                let name = format!("lines: {length} {name}, {} at the end", last.len());
                all.push((name, format!("{BEGIN}{end}{body}{end}{END}{last}")));
            }
        }
    }
    all
}

/// Blanks where people leave them, headers, labels, what is around a key.
fn surroundings(json: &str, other: &KeyPair) -> Vec<(String, String)> {
    let good = pem(json.as_bytes());
    let body = lines(json.as_bytes(), 64, "\n");
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, text: String| all.push((name.to_owned(), text));
    add("one line", format!("{BEGIN}{}{END}", body.replace('\n', "")));
    add("one line and a newline", format!("{BEGIN}{}{END}\n", body.replace('\n', "")));
    add("one line, blanks for newlines", good.trim().replace('\n', " "));
    add("newlines as they are escaped", good.replace('\n', "\\n"));
    add("BEGIN and the body on one line", format!("{BEGIN}{body}\n{END}\n"));
    add("END after the body on its line", format!("{BEGIN}\n{body}{END}\n"));
    add("no END", format!("{BEGIN}\n{body}\n"));
    add("no BEGIN", format!("{body}\n{END}\n"));
    add("no body", format!("{BEGIN}\n{END}\n"));
    add("empty", String::new());
    for (name, blank) in [
        ("a blank", " "),
        ("a tab", "\t"),
        ("a form feed", "\u{c}"),
        ("a no-break space", "\u{a0}"),
        ("a byte order mark", "\u{feff}"),
        ("a NUL", "\0"),
        ("a dash", "-"),
    ] {
        add(&format!("{name} before"), format!("{blank}{good}"));
        add(&format!("{name} after"), format!("{good}{blank}"));
        add(&format!("{name} after BEGIN"), good.replacen('\n', &format!("{blank}\n"), 1));
        add(&format!("{name} after END"), format!("{}{blank}\n", good.trim_end()));
        add(&format!("{name} at each line's end"), good.replace('\n', &format!("{blank}\n")));
        add(&format!("{name} at each line's beginning"), good.replace('\n', &format!("\n{blank}")));
        add(
            &format!("{name} in the body"),
            format!("{BEGIN}\n{}{blank}{}\n{END}\n", &body[..30], &body[30..]),
        );
    }
    for (name, header) in [
        ("header: one", "Proc-Type: 4,ENCRYPTED\n\n"),
        ("header: no line between", "Proc-Type: 4,ENCRYPTED\n"),
        ("header: two", "A: b\nC: d\n\n"),
        ("header: no name", ":\n\n"),
        ("header: goes on in the next line", "A: b\n c\n\n"),
        ("header: none, an empty line", "\n"),
        ("header: looks like an END", "-----END x-----: y\n\n"),
    ] {
        add(name, good.replacen('\n', &format!("\n{header}"), 1));
    }
    add("header: after the body", format!("{BEGIN}\n{body}\nA: b\n{END}\n"));
    for label in [
        "ENCRYPTED COSIGN PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "PRIVATE KEY",
        "EC PRIVATE KEY",
        "encrypted sigstore private key",
        " ENCRYPTED SIGSTORE PRIVATE KEY",
        "ENCRYPTED SIGSTORE PRIVATE KEY ",
        "ENCRYPTED  SIGSTORE PRIVATE KEY",
        "",
    ] {
        let long = "ENCRYPTED SIGSTORE PRIVATE KEY";
        add(&format!("label: {label:?}"), good.replace(long, label));
        add(
            &format!("label: {label:?} at the end"),
            good.replace(&format!("END {long}"), &format!("END {label}")),
        );
    }
    add("dashes: four", good.replace("-----", "----"));
    add("dashes: six", good.replace("-----", "------"));
    let public = other.public_pem();
    let second = str::from_utf8(other.encrypted_pem()).unwrap();
    add("text: before", format!("the key of checkout\n{good}"));
    add("text: before, on the line", format!("key: {good}"));
    add("text: after", format!("{good}the key of checkout\n"));
    add("text: after, on the line", format!("{} the key\n", good.trim_end()));
    add("text: long, before the key", format!("{}\n{good}", "x".repeat(20_000)));
    add("text: YAML around it", format!("key: |\n  {}", good.trim_end().replace('\n', "\n  ")));
    add("blocks: a public key after", format!("{good}{public}"));
    add("blocks: a public key before", format!("{public}{good}"));
    add("blocks: another key after", format!("{good}{second}"));
    add("blocks: twice", format!("{good}{good}"));
    add("blocks: BEGIN twice", format!("{BEGIN}\n{good}"));
    add("blocks: END twice", format!("{good}{END}\n"));
    add("blocks: one without a body before", format!("{BEGIN}\n{END}\n{good}"));
    add("blocks: one with a broken body before", format!("{BEGIN}\n%%%\n{END}\n{good}"));
    add("blocks: broken off before", format!("{BEGIN}\n{}\n{good}", &body[..100]));
    all
}

/// What base64 allows some readers.
fn base64s(json: &str) -> Vec<(String, String)> {
    // Of each of the three lengths of padding.
    let mut all = Vec::new();
    for blanks in ["", " ", "  "] {
        let padded = format!("{json}{blanks}");
        let base64 = Base64::encode_string(padded.as_bytes());
        let bare = base64.trim_end_matches('=');
        let padding = base64.len() - bare.len();
        let mut add = |name: &str, body: String| {
            all.push((
                format!("base64: {name}, padding {padding}"),
                format!("{BEGIN}\n{body}\n{END}\n"),
            ));
        };
        add("as it is", base64.clone());
        add("no padding", bare.to_owned());
        add("more padding", format!("{base64}="));
        add("a line in the padding", base64.replacen('=', "\n=", 2));
        add("a blank in the padding", base64.replacen('=', " =", 2));
        add("something after it", format!("{base64}AAAA"));
        add("of URLs", base64.replace('+', "-").replace('/', "_"));
        if padding == 1 {
            // The last character's two lowest bits belong to no byte.
            let last = bare.as_bytes()[bare.len() - 1];
            let odd = char::from(if last == b'9' { b'8' } else { last + 1 });
            let body = format!("{}{odd}=", &bare[..bare.len() - 1]);
            let name = "base64: bits after the last byte".to_owned();
            all.push((name, format!("{BEGIN}\n{body}\n{END}\n")));
        }
    }
    all
}

/// The same JSON in other words, and others.
fn jsons(json: &str) -> Vec<(String, String)> {
    let value: Value = serde_json::from_str(json).unwrap();
    let text = |pointer: &str| value.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let (salt, nonce, box_) = (text("/kdf/salt"), text("/cipher/nonce"), text("/ciphertext"));
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, json: String| all.push((format!("json: {name}"), json));
    add("spaced", serde_json::to_string_pretty(&value).unwrap());
    add("sorted", value.to_string());
    add("blanks around", format!(" \n\t{json}\r\n "));
    add("something after it", format!("{json}{{}}"));
    add("a byte order mark", format!("\u{feff}{json}"));
    add("a comma too many", json.replace("},", "},,"));
    add("a NUL after it", format!("{json}\0"));
    let with = |field: &str| json.replacen('{', &format!("{{{field},"), 1);
    let then = |field: &str| format!("{},{field}}}", &json[..json.len() - 1]);
    add("an unknown field", with("\"x\":[1,{\"y\":null}]"));
    add("a lone surrogate in an unknown field", with("\"x\":\"\\ud800\""));
    add("200 arrays deep", with(&format!("\"x\":{}{}", "[".repeat(200), "]".repeat(200))));
    let deep = format!("{}0{}", "{\"x\":".repeat(200), "}".repeat(200));
    add("200 objects deep", with(&format!("\"x\":{deep}")));
    add("unknown fields inside", json.replace("\"N\"", "\"x\":1,\"N\""));
    for name in ["kdf", "KDF", "Kdf", "\u{212a}df", "k\\u0064f"] {
        add(&format!("{name} for kdf"), json.replace("\"kdf\"", &format!("\"{name}\"")));
        add(&format!("{name} again, another"), then(&format!("\"{name}\":{{\"name\":\"x\"}}")));
        add(&format!("{name} again, null"), then(&format!("\"{name}\":null")));
        add(&format!("{name} before, another"), with(&format!("\"{name}\":{{\"name\":\"x\"}}")));
        add(&format!("{name} before, of another kind"), with(&format!("\"{name}\":7")));
    }
    for name in ["salt", "SALT", "\u{17f}alt"] {
        add(&format!("{name} for salt"), json.replace("\"salt\"", &format!("\"{name}\"")));
    }
    for name in ["N", "n"] {
        add(&format!("{name} for N"), json.replace("\"N\"", &format!("\"{name}\"")));
        add(&format!("{name} again"), json.replace("\"p\"", &format!("\"{name}\":65536,\"p\"")));
        add(&format!("{name} before"), json.replace("\"N\"", &format!("\"{name}\":65536,\"N\"")));
        add(
            &format!("{name} again, null"),
            json.replace("\"p\"", &format!("\"{name}\":null,\"p\"")),
        );
        add(
            &format!("{name} again, text"),
            json.replace("\"p\"", &format!("\"{name}\":\"\",\"p\"")),
        );
    }
    add("ciphertext again, null", then("\"ciphertext\":null"));
    add("ciphertext again, empty", then("\"Ciphertext\":\"\""));
    add("ciphertext again, no base64", with("\"ciphertext\":\"?\""));
    for n in ["32768.0", "3.2768e4", "32768e0", "\"32768\"", "032768", "+32768", "0x8000", "-32768"]
    {
        add(&format!("N is {n}"), json.replace("32768", n));
    }
    add("r is 8.0", json.replace("\"r\":8", "\"r\":8.0"));
    add("r is true", json.replace("\"r\":8", "\"r\":true"));
    add("p is 1e0", json.replace("\"p\":1", "\"p\":1e0"));
    add("N is too much", json.replace("32768", "262144"));
    add("N is too little", json.replace("32768", "16384"));
    add("N is no power of two", json.replace("32768", "40000"));
    add("no p", json.replace(",\"p\":1", ""));
    add("no salt", json.replace(&format!(",\"salt\":\"{salt}\""), ""));
    add("no cipher's name", json.replace("\"name\":\"nacl/secretbox\",", ""));
    add("another kdf", json.replace("\"scrypt\"", "\"pbkdf2\""));
    add("scrypt in capitals", json.replace("\"scrypt\"", "\"SCRYPT\""));
    add("params as an array", json.replace("{\"N\":32768,\"r\":8,\"p\":1}", "[32768,8,1]"));
    add(
        "the kdf as an array",
        json!([["scrypt", [32768, 8, 1], salt], value["cipher"], box_]).to_string(),
    );
    add("the cipher as an array", {
        json!({"kdf": value["kdf"], "cipher": ["nacl/secretbox", nonce], "ciphertext": box_})
            .to_string()
    });
    add("the whole as an array", json!([value["kdf"], value["cipher"], box_]).to_string());
    add("the whole in an array", format!("[{json}]"));
    add("null", "null".to_owned());
    for (name, part) in [("salt", &salt), ("nonce", &nonce), ("ciphertext", &box_)] {
        let (quoted, head) = (format!("\"{part}\""), &part[..8]);
        let replaced = |by: &str| json.replace(&quoted, &format!("\"{by}\""));
        add(&format!("a newline in the {name}"), json.replace(head, &format!("{head}\\n")));
        add(&format!("a blank in the {name}"), json.replace(head, &format!("{head} ")));
        add(&format!("the {name} without padding"), replaced(part.trim_end_matches('=')));
        add(&format!("the {name} shorter"), replaced(&part[4..]));
        add(&format!("the {name} escaped"), replaced(&part.replace('/', "\\/")));
        add(&format!("the {name} is null"), json.replace(&quoted, "null"));
    }
    let numbers: Vec<u8> = Base64::decode_vec(&salt).unwrap();
    let numbers = json!(numbers).to_string();
    add("bytes as an array of numbers", json.replace(&format!("\"{salt}\""), &numbers));
    all
}

/// All of them, of one key.
pub(super) fn corpus(pair: &KeyPair) -> Vec<Variant> {
    let json = json_of(pair);
    let other = KeyPair::generate().unwrap();
    let inside = jsons(&json).into_iter().map(|(name, json)| (name, pem(json.as_bytes())));
    let all = layouts(&json).into_iter().chain(surroundings(&json, &other));
    let all = all.chain(base64s(&json)).chain(inside);
    let mut all: Vec<Variant> =
        all.map(|(name, pem)| Variant { name, pem: pem.into_bytes() }).collect();
    let good = pem(json.as_bytes());
    let no_text = [b"\xff\xfe\n", good.as_bytes()].concat();
    all.push(Variant { name: "text: no UTF-8 before".to_owned(), pem: no_text });
    all.push(Variant {
        name: "UTF-16".to_owned(),
        pem: good.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    });
    all
}
