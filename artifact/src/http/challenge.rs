//! What a registry asks for in `WWW-Authenticate` (RFC 9110, 11.6.1). No IO.

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Name of the registry there.
        service: Option<String>,
    },
}

/// The first challenge of the header that a client here can meet.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    challenges(header)
        .into_iter()
        .find_map(|(scheme, parameters)| match scheme.to_ascii_lowercase().as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => {
                let find = |name: &str| {
                    let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.clone())
                };
                Some(Challenge::Bearer {
                    realm: find("realm")?,
                    service: find("service"),
                })
            }
            _ => None,
        })
}

type Parameters = Vec<(String, String)>;

/// Schemes with their parameters. A word that `=` follows is a parameter of the scheme before it.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            found.push((word.to_owned(), Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = take_value(value.trim_start());
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((word.to_owned(), value));
        }
        rest = after;
    }
}

/// A quoted string without its quotes, or a token.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_of_real_registries_are_understood() {
        for (header, expected) in [
            (r#"Basic realm="rig""#, Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push""#,
                Some(bearer("https://auth.example.com/token", Some("registry"))),
            ),
            (
                r#"bearer service=r.io , realm = "https://r.io/t?a=\"b\"" , error="x""#,
                Some(bearer("https://r.io/t?a=\"b\"", Some("r.io"))),
            ),
            (
                r#"Negotiate, Bearer realm="https://r.io/t""#,
                Some(bearer("https://r.io/t", None)),
            ),
            (r#"Digest realm="a, b", Basic realm="c""#, Some(Challenge::Basic)),
            (r#"Bearer service="no realm""#, None),
            ("", None),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_to_its_end(header in r#"[a-zA-Z=", \\é]{0,80}"#) {
            let _ = parse(&header);
        }
    }
}
