/// Go's `path.Match`: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` are sets, `\` takes the next character as it is.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    glob_at(&pattern, &text)
}

fn glob_at(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => {
            (0..=text.len()).take_while(|&n| !text[..n].contains(&'/')).any(|n| glob_at(rest, &text[n..]))
        }
        ['?', rest @ ..] => text.first().is_some_and(|&c| c != '/') && glob_at(rest, &text[1..]),
        ['[', rest @ ..] => {
            let Some((&c, text)) = text.split_first() else { return false };
            let (negated, rest) = match rest {
                ['^', rest @ ..] => (true, rest),
                _ => (false, rest),
            };
            let Some(end) = rest.iter().skip(1).position(|&c| c == ']').map(|n| n + 1) else { return false };
            in_set(&rest[..end], c) != negated && glob_at(&rest[end + 1..], text)
        }
        ['\\', literal, rest @ ..] | [literal, rest @ ..] => {
            text.first() == Some(literal) && glob_at(rest, &text[1..])
        }
    }
}

fn in_set(mut set: &[char], c: char) -> bool {
    while let [first, rest @ ..] = set {
        set = match rest {
            ['-', last, rest @ ..] => {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                rest
            }
            _ => {
                if *first == c {
                    return true;
                }
                rest
            }
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stop_at_slashes() {
        assert!(glob("ngin*", "nginx"));
        assert!(glob("*/*", "me/app"));
        assert!(!glob("*", "me/app"));
        assert!(glob("a?c[0-9x]", "abc7") && glob("a?c[0-9x]", "abcx") && !glob("a?c[^0-9]", "abc7"));
        assert!(!glob("[", "x") && glob("\\*", "*") && !glob("\\*", "x"));
    }
}
