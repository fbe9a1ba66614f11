//! The forms in which a secret gets written: the encodings that tools and libraries put it in.

use std::collections::BTreeSet;

use agent_domain::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::SECRET_MIN;

/// What Standard Webhooks puts before a key written in base64.
const WEBHOOK_PREFIX: &str = "whsec_";
/// Shortest line of a secret that is one by itself.
const LINE_MIN: usize = 16;
/// What is looked for of an encoding that may be wrapped to lines: every piece of this length, so that
/// a wrapped secret is found whatever the width of the lines and wherever it began in them.
const PIECE: usize = 16;
/// Depth to which JSON may be nested in JSON: a tool prints JSON, the transcript holds it as a string,
/// and someone prints the transcript.
const NESTED: usize = 3;

type Forms = BTreeSet<Vec<u8>>;

/// Every form of every secret.
pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Forms {
    let mut forms = Forms::new();
    for value in secrets.into_iter().flat_map(values) {
        if value.len() >= SECRET_MIN {
            add(&mut forms, &value);
        }
    }
    forms
}

/// The values that a secret stands for.
fn values(secret: &Secret) -> Vec<Vec<u8>> {
    let whole = secret.expose().trim();
    let mut values = vec![whole.as_bytes().to_vec()];
    if let Some(encoded) = whole.strip_prefix(WEBHOOK_PREFIX) {
        values.push(encoded.trim_end_matches('=').as_bytes().to_vec());
        values.extend(STANDARD.decode(encoded));
    }
    let lines = whole.lines().map(str::trim).filter(|line| {
        // The first and last line of a key in PEM are the same for every key.
        line.len() < whole.len() && line.len() >= LINE_MIN && !line.starts_with("-----")
    });
    values.extend(lines.map(|line| line.as_bytes().to_vec()));
    values
}

fn add(forms: &mut Forms, value: &[u8]) {
    let mut written = Forms::from([value.to_vec()]);
    written.extend(shell(value));
    written.extend(percent(value));
    written.extend(json_dialects(value));
    for form in written {
        let mut form = form;
        for _ in 0..NESTED {
            let escaped = json(&form);
            forms.insert(form);
            form = escaped;
        }
        forms.insert(form);
    }
    for alignment in 0..3 {
        for piece in base64_pieces(value, alignment) {
            if piece.iter().any(|byte| b"+/".contains(byte)) {
                forms.insert(replaced(&piece, b'/', b"\\/"));
                forms.extend(percent(&piece));
            }
            forms.insert(piece);
        }
    }
    forms.extend(hex_pieces(value));
}

/// What depends on nothing but `value` when base64 is made of a text in which it begins `alignment`
/// bytes after a multiple of three, in pieces.
fn base64_pieces(value: &[u8], alignment: usize) -> Forms {
    let mut text = vec![0; alignment];
    text.extend_from_slice(value);
    // Six bits a character; the ones at both ends hold bits of what is around. Where nothing follows,
    // the last one holds zeroes.
    let (first, end) = ((alignment * 8).div_ceil(6), text.len() * 8 / 6);
    let encoded = [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)];
    encoded
        .iter()
        .map(|encoded| &encoded.as_bytes()[first..])
        .flat_map(|known| [&known[..end - first], known])
        .flat_map(|known| pieces(known, 1, PIECE))
        .collect()
}

fn hex_pieces(value: &[u8]) -> Forms {
    let digits = |upper: bool| -> Vec<u8> {
        let digit = |byte: &u8| {
            if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            }
        };
        value.iter().map(digit).collect::<String>().into_bytes()
    };
    [digits(false), digits(true)]
        .iter()
        .flat_map(|text| pieces(text, 2, 2 * PIECE))
        .collect()
}

/// Every piece of `length` that begins at a multiple of `step`; all of a text that is no longer.
fn pieces(text: &[u8], step: usize, length: usize) -> Vec<Vec<u8>> {
    let length = length.min(text.len());
    let starts = (0..=text.len() - length).step_by(step);
    starts.map(|at| text[at..at + length].to_vec()).collect()
}

/// As JSON has it inside a string, with no more escapes than it demands.
fn json(value: &[u8]) -> Vec<u8> {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' => vec![b'\\', byte],
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        b'\t' => b"\\t".to_vec(),
        0x08 => b"\\b".to_vec(),
        0x0c => b"\\f".to_vec(),
        0..0x20 => format!("\\u{byte:04x}").into_bytes(),
        _ => vec![byte],
    };
    value.iter().copied().flat_map(escape).collect()
}

/// As encoders have it that escape more than JSON demands: the slash, what means something in HTML,
/// what is not ASCII, and all of these.
fn json_dialects(value: &[u8]) -> Forms {
    let Ok(text) = std::str::from_utf8(value) else {
        return Forms::new();
    };
    let mut forms = Forms::new();
    for (slash, html, ascii) in [
        (true, "", false),
        (true, "", true),
        (false, "", true),
        (false, "<>&", false),
        (false, "<>&\u{2028}\u{2029}", false),
        (true, "<>&'", true),
        (false, "<>&'+`\"", true),
        (true, "<>&'\"", true),
    ] {
        for upper in [false, true] {
            let escape = |c: char| match c {
                '/' if slash => b"\\/".to_vec(),
                c if html.contains(c) || (ascii && (!c.is_ascii() || c == '\x7f')) => {
                    unicode_escape(c, upper)
                }
                c => json(c.encode_utf8(&mut [0; 4]).as_bytes()),
            };
            forms.insert(text.chars().flat_map(escape).collect());
        }
    }
    forms
}

fn unicode_escape(c: char, upper: bool) -> Vec<u8> {
    let unit = |unit: &u16| {
        if upper {
            format!("\\u{unit:04X}")
        } else {
            format!("\\u{unit:04x}")
        }
    };
    let units: String = c.encode_utf16(&mut [0; 2]).iter().map(unit).collect();
    units.into_bytes()
}

/// Percent-encoded, by the sets of characters that encoders leave as they are beside letters and
/// digits; in forms, a blank becomes a plus.
fn percent(value: &[u8]) -> Forms {
    const KEPT: [&str; 7] = [
        "",
        "-._~",
        "-._~/",
        "-_.!~*'()",
        "*-._",
        "-._~!$&'()*+,;=:@",
        "-._~!$&'()*+,;=:@/?#[]",
    ];
    let mut forms = Forms::new();
    for kept in KEPT {
        for plus in [false, true] {
            for upper in [false, true] {
                let escape = |byte: &u8| match *byte {
                    b' ' if plus => "+".to_owned(),
                    byte if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => {
                        char::from(byte).to_string()
                    }
                    byte if upper => format!("%{byte:02X}"),
                    byte => format!("%{byte:02x}"),
                };
                forms.insert(value.iter().map(escape).collect::<String>().into_bytes());
            }
        }
    }
    forms
}

/// Quoted for a shell: in single quotes, in double quotes, with backslashes, and as `$'...'`.
fn shell(value: &[u8]) -> Forms {
    let backslashed = |special: fn(u8) -> bool| -> Vec<u8> {
        let escape = |byte: &u8| {
            if special(*byte) {
                vec![b'\\', *byte]
            } else {
                vec![*byte]
            }
        };
        value.iter().flat_map(escape).collect()
    };
    let ansi = |byte: &u8| match *byte {
        b'\'' => b"\\'".to_vec(),
        b'"' => b"\"".to_vec(),
        byte => json(&[byte]),
    };
    Forms::from([
        replaced(value, b'\'', b"'\\''"),
        replaced(value, b'\'', b"'\"'\"'"),
        backslashed(|byte| matches!(byte, b'"' | b'$' | b'`' | b'\\')),
        backslashed(|byte| matches!(byte, b'"' | b'$' | b'`' | b'\\' | b'!')),
        // What `printf %q` leaves alone differs from shell to shell.
        backslashed(|byte| is_special(byte) && !b"_-./:=@%+".contains(&byte)),
        backslashed(|byte| is_special(byte) && !b"_-./:=@%+^~#,{}".contains(&byte)),
        backslashed(is_special),
        value.iter().flat_map(ansi).collect(),
    ])
}

fn is_special(byte: u8) -> bool {
    byte.is_ascii_punctuation() || byte == b' '
}

fn replaced(value: &[u8], byte: u8, by: &[u8]) -> Vec<u8> {
    let replace = |found: &u8| {
        if *found == byte {
            by.to_vec()
        } else {
            vec![*found]
        }
    };
    value.iter().flat_map(replace).collect()
}
