//! That no form of a secret gets through, at any cut of the stream, and that nothing else is touched.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

const TOKEN: &str = "ghp_canaryOfTheGithubToken0123456789";
const HOSTILE: &str = "p@ss \"w0rd\" it's/a\\b $HOME `x` <é>+%41\u{1f600}&";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n\
    MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu\n\
    -----END PRIVATE KEY-----\n";
const WEBHOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn secrets(values: &[&str]) -> Vec<Secret> {
    values.iter().map(|value| Secret::new(*value)).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

fn masker(values: &[&str]) -> Masker {
    Masker::new(&secrets(values))
}

fn streamed(masker: &Masker, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut stream = MaskStream::new(masker.clone());
    for piece in pieces {
        stream.feed(piece, |text| out.extend_from_slice(text));
    }
    stream.finish(|text| out.extend_from_slice(text));
    out
}

#[track_caller]
fn assert_masked(masker: &Masker, text: &str, expected: &str) {
    let found = streamed(masker, &[text.as_bytes()]);
    assert_eq!(String::from_utf8_lossy(&found), expected);
}

#[test]
fn each_form_is_masked_at_every_split_of_the_stream() {
    for secret in [TOKEN, HOSTILE, WEBHOOK, "test123"] {
        let masker = masker(&[secret]);
        for form in forms::of(&secrets(&[secret])) {
            let text = [b"<<", form.as_slice(), b">>"].concat();
            let expected = format!("<<{MASK}>>").into_bytes();
            for cut in 0..=text.len() {
                let found = streamed(&masker, &[&text[..cut], &text[cut..]]);
                assert!(
                    found == expected,
                    "{:?} cut at {cut} gives {:?}",
                    String::from_utf8_lossy(&text),
                    String::from_utf8_lossy(&found)
                );
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(streamed(&masker, &bytes), expected);
        }
    }
}

#[test]
fn what_comes_out_before_a_form_ends_holds_nothing_of_it() {
    let masker = masker(&[TOKEN, HOSTILE]);
    for form in forms::of(&secrets(&[TOKEN, HOSTILE])) {
        for cut in 0..form.len() {
            let mut out = Vec::new();
            let mut stream = MaskStream::new(masker.clone());
            stream.feed(b"a line\n", |text| out.extend_from_slice(text));
            stream.feed(&form[..cut], |text| out.extend_from_slice(text));
            let out = String::from_utf8_lossy(&out);
            assert!(
                matches!(out.as_ref(), "a line\n" | "a line\n[masked]"),
                "{out}"
            );
        }
    }
}

/// What tools make of a text that holds a secret.
#[test]
fn what_real_encoders_make_of_a_secret_is_masked() {
    let masker = masker(&[HOSTILE]);
    let json = serde_json::to_string(HOSTILE).unwrap();
    let twice = serde_json::to_string(&json).unwrap();
    let thrice = serde_json::to_string(&twice).unwrap();
    assert_masked(&masker, &json, "\"[masked]\"");
    assert_masked(&masker, &twice, "\"\\\"[masked]\\\"\"");
    assert_masked(&masker, &thrice, "\"\\\"\\\\\\\"[masked]\\\\\\\"\\\"\"");
    for (encoded, rest) in [
        // JSON by Python, PHP, Go and .NET.
        (
            r#"p@ss \"w0rd\" it's/a\\b $HOME `x` <\u00e9>+%41\ud83d\ude00&"#,
            "",
        ),
        (
            r#"p@ss \"w0rd\" it's\/a\\b $HOME `x` <\u00e9>+%41\ud83d\ude00&"#,
            "",
        ),
        (
            r#"p@ss \"w0rd\" it's/a\\b $HOME `x` \u003cé\u003e+%41😀\u0026"#,
            "",
        ),
        (
            r"p@ss \u0022w0rd\u0022 it\u0027s/a\\b $HOME \u0060x\u0060 \u003C\u00E9\u003E\u002B%41\uD83D\uDE00\u0026",
            "",
        ),
        // encodeURIComponent, quote, quote_plus, encodeURI.
        (
            "p%40ss%20%22w0rd%22%20it's%2Fa%5Cb%20%24HOME%20%60x%60%20%3C%C3%A9%3E%2B%2541%F0%9F%98%80%26",
            "",
        ),
        (
            "p%40ss%20%22w0rd%22%20it%27s/a%5Cb%20%24HOME%20%60x%60%20%3C%C3%A9%3E%2B%2541%F0%9F%98%80%26",
            "",
        ),
        (
            "p%40ss+%22w0rd%22+it%27s%2fa%5cb+%24HOME+%60x%60+%3c%c3%a9%3e%2b%2541%f0%9f%98%80%26",
            "",
        ),
        (
            "p@ss%20%22w0rd%22%20it's/a%5Cb%20$HOME%20%60x%60%20%3C%C3%A9%3E+%2541%F0%9F%98%80&",
            "",
        ),
        // A shell's single quotes, double quotes, and $'...'.
        (r#"'p@ss "w0rd" it'\''s/a\b $HOME `x` <é>+%41😀&'"#, "''"),
        (
            r#""p@ss \"w0rd\" it's/a\\b \$HOME \`x\` <é>+%41😀&""#,
            "\"\"",
        ),
        (
            r#"p@ss\ \"w0rd\"\ it\'s/a\\b\ \$HOME\ \`x\`\ \<é\>+%41😀\&"#,
            "",
        ),
        (r#"$'p@ss "w0rd" it\'s/a\\b $HOME `x` <é>+%41😀&'"#, "$''"),
    ] {
        let found = streamed(&masker, &[encoded.as_bytes()]);
        let found = String::from_utf8(found).unwrap();
        assert_eq!(found.replace(MASK, ""), rest, "{encoded}");
    }
}

#[test]
fn base64_is_masked_at_every_alignment_and_wrapped_at_any_width() {
    let masker = masker(&[TOKEN, HOSTILE]);
    for secret in [TOKEN, HOSTILE] {
        for before in 0..80 {
            let text = format!("{}{secret}{}", "x".repeat(before), "y".repeat(before % 4));
            for engine in [&STANDARD, &URL_SAFE] {
                let encoded = engine.encode(&text);
                for width in [19, 60, 64, 76, 1000] {
                    let lines: Vec<&[u8]> = encoded.as_bytes().chunks(width).collect();
                    let wrapped = lines.join(&b'\n');
                    let found = streamed(&masker, &[&wrapped]);
                    let plain: Vec<u8> = engine.encode("x".repeat(before)).into_bytes();
                    let left = found
                        .split(|byte| *byte == b'\n')
                        .map(<[u8]>::len)
                        .sum::<usize>();
                    let masks = String::from_utf8_lossy(&found).matches(MASK).count();
                    // Both ends, the line ends too, keep less than a piece each.
                    let most = plain.len() + 8 + masks * MASK.len() + 2 * 15 * (lines.len() - 1);
                    assert!(masks > 0 && left <= most, "{left} > {most}");
                    if lines.len() == 1 {
                        assert_eq!(masks, 1);
                        assert!(left <= plain.len() + MASK.len() + 8);
                    }
                }
            }
        }
    }
}

#[test]
fn hexadecimal_is_masked_in_both_cases() {
    let masker = masker(&[TOKEN]);
    let hex = hex(TOKEN.as_bytes());
    assert_masked(&masker, &format!("0x{hex}."), "0x[masked].");
    assert_masked(&masker, &hex.to_uppercase(), MASK);
}

#[test]
fn a_key_of_several_lines_is_masked_as_a_whole_and_line_by_line() {
    let masker = masker(&[PEM]);
    assert_masked(&masker, &format!("a\n{PEM}b"), "a\n[masked]\nb");
    assert_masked(
        &masker,
        &PEM.replace('\n', "\r\n  "),
        "-----BEGIN PRIVATE KEY-----\r\n  [masked]\r\n  [masked]\r\n  -----END PRIVATE KEY-----\r\n  ",
    );
    let json = serde_json::to_string(&serde_json::to_string(PEM).unwrap()).unwrap();
    assert_masked(&masker, &json, "\"\\\"[masked]\\\\n\\\"\"");
}

#[test]
fn of_a_webhook_secret_the_key_itself_is_masked_too() {
    let masker = masker(&[WEBHOOK]);
    let encoded = WEBHOOK.strip_prefix("whsec_").unwrap();
    let key = STANDARD.decode(encoded).unwrap();
    assert_masked(&masker, &format!("key {encoded}"), "key [masked]");
    let raw = streamed(&masker, &[&key]);
    assert_eq!(raw, MASK.as_bytes());
    let hex = hex(&key);
    assert_masked(&masker, &hex, MASK);
}

#[test]
fn a_secret_that_is_the_beginning_of_another_or_overlaps_it_hides_neither() {
    let masker = masker(&["abcdefgh", "abcdefghijkl", "ghijklmnop"]);
    assert_masked(&masker, "-abcdefgh-", "-[masked]-");
    assert_masked(&masker, "-abcdefghij-", "-[masked]ij-");
    assert_masked(&masker, "-abcdefghijkl-", "-[masked]-");
    assert_masked(&masker, "-abcdefghijklmnop-", "-[masked]-");
    assert_masked(&masker, "abcdefghabcdefgh", "[masked]");
}

#[test]
fn a_stream_that_ends_within_a_secret_keeps_none_of_it() {
    let masker = masker(&[TOKEN]);
    assert_masked(&masker, &format!("a {}", &TOKEN[..30]), "a [masked]");
    assert_masked(&masker, "a ghp_can", "a ghp_can");
    assert_eq!(masker.text(&format!("a {}", &TOKEN[..30])), "a [masked]");
}

#[test]
fn what_is_no_secret_stays_as_it_is_and_nothing_is_held_back_for_long() {
    let masker = masker(&[TOKEN, HOSTILE, "short", ""]);
    let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
    assert_eq!(streamed(&masker, &[&all]), all);
    assert_masked(&masker, "short", "short");
    let mut stream = MaskStream::new(masker);
    let mut out = Vec::new();
    stream.feed(b"a line that ends here\n", |text| {
        out.extend_from_slice(text);
    });
    assert_eq!(out, b"a line that ends here\n");
    assert_eq!(Masker::default().text("anything"), "anything");
}

/// Text made of pieces of forms, cut at random, against the plain definition: every byte of every
/// occurrence goes, each run of them is one mask.
#[test]
fn masking_a_stream_is_the_same_as_masking_the_whole_however_it_is_cut() {
    let known = secrets(&["aabaab", "abaaba-x", "baabaab"]);
    let masker = Masker::new(&known);
    let values: Vec<&[u8]> = known.iter().map(|one| one.expose().as_bytes()).collect();
    let mut state = 7_u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    for _ in 0..3000 {
        let text: Vec<u8> = (0..next(40))
            .map(|_| b"aaabb-x"[next(7) as usize])
            .collect();
        let mut covered = vec![false; text.len()];
        for value in &values {
            for at in 0..text.len() {
                if text[at..].starts_with(value) {
                    covered[at..at + value.len()].fill(true);
                }
            }
        }
        let mut expected = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            match (covered[at], at > 0 && covered[at - 1]) {
                (false, _) => expected.push(*byte),
                (true, false) => expected.extend_from_slice(MASK.as_bytes()),
                (true, true) => {}
            }
        }
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(1 + next(1000) as usize % rest.len());
            pieces.push(piece);
            rest = left;
        }
        assert_eq!(streamed(&masker, &pieces), expected, "{text:?} {pieces:?}");
    }
}
