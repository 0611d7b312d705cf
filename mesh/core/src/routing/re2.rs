//! From RE2's syntax, as Go's library and Envoy take it, to that of the crate that matches here. Both describe automata, and
//! differ in what stands for itself: RE2 takes `{id}`, `[[a]` and `\<` as they are, and has `\Q…\E` and octal escapes.
//!
//! What RE2 refuses and the crate would take is refused too.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// The most that a repetition may count to.
const MOST: u32 = 1000;

/// Rewrites an expression.
///
/// # Errors
/// What RE2 does not take in it, and what it takes but is not supported here.
pub(super) fn translate(text: &str) -> Result<String, String> {
    let mut translation = Translation {
        rest: text.chars().peekable(),
        written: String::with_capacity(text.len() + 8),
        open: 0,
        last: Last::Nothing,
    };
    translation.run()?;
    Ok(translation.written)
}

/// What stands before a repetition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing that can be repeated.
    Nothing,
    /// Something that can.
    Something,
    /// A repetition, which cannot be repeated again.
    Repetition,
}

struct Translation<'a> {
    rest: Peekable<Chars<'a>>,
    written: String,
    /// How many groups are open.
    open: usize,
    last: Last,
}

impl Translation<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(next) = self.rest.next() {
            let mut last = Last::Something;
            match next {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => {
                    self.open += 1;
                    last = Last::Nothing;
                    self.group()?;
                }
                ')' => {
                    self.open = self.open.checked_sub(1).ok_or("unexpected )")?;
                    self.written.push(')');
                }
                '|' => {
                    last = Last::Nothing;
                    self.written.push('|');
                }
                '*' | '+' | '?' => {
                    last = Last::Repetition;
                    self.repetition(&next.to_string())?;
                }
                '{' => match self.count() {
                    Some((count, least, most)) => {
                        last = Last::Repetition;
                        if least > MOST || most.is_some_and(|most| most > MOST || most < least) {
                            return Err(format!("invalid repeat count {count}"));
                        }
                        self.repetition(&count)?;
                    }
                    None => self.written.push_str(r"\{"),
                },
                '}' => self.written.push_str(r"\}"),
                other => self.written.push(other),
            }
            self.last = last;
        }
        if self.open > 0 {
            return Err("missing closing )".to_owned());
        }
        Ok(())
    }

    fn repetition(&mut self, operator: &str) -> Result<(), String> {
        match self.last {
            Last::Nothing => return Err(format!("missing argument to repetition operator {operator}")),
            Last::Repetition => return Err(format!("invalid nested repetition operator {operator}")),
            Last::Something => {}
        }
        self.written.push_str(operator);
        if self.rest.next_if_eq(&'?').is_some() {
            self.written.push('?');
        }
        Ok(())
    }

    /// What follows an opening brace, where it is a count: `{n}`, `{n,}` or `{n,m}`.
    fn count(&mut self) -> Option<(String, u32, Option<u32>)> {
        let mut ahead = self.rest.clone();
        let (mut inside, mut length) = (String::new(), 1);
        loop {
            match ahead.next()? {
                '}' => break,
                next => inside.push(next),
            }
            length += 1;
        }
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // Leading zeros make it none.
            (digits && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
        };
        let (least, most) = match inside.split_once(',') {
            None => (number(&inside)?, None),
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        self.rest.nth(length - 1);
        Some((format!("{{{inside}}}"), least, most))
    }

    /// What follows an opening parenthesis. The flags of RE2 are `i`, `m`, `s` and `U`.
    fn group(&mut self) -> Result<(), String> {
        self.written.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.written.push('?');
        if self.rest.next_if_eq(&'P').is_some() {
            self.written.push('P');
        }
        if self.rest.next_if_eq(&'<').is_some() {
            self.written.push('<');
            for next in self.rest.by_ref() {
                self.written.push(next);
                match next {
                    '>' => return Ok(()),
                    _ if next.is_ascii_alphanumeric() || next == '_' => {}
                    _ => break,
                }
            }
            return Err("invalid named capture".to_owned());
        }
        for next in self.rest.by_ref() {
            self.written.push(next);
            match next {
                'i' | 'm' | 's' | 'U' | '-' => {}
                ':' => return Ok(()),
                ')' => {
                    self.open -= 1;
                    return Ok(());
                }
                _ => break,
            }
        }
        Err("invalid or unsupported Perl syntax after (?".to_owned())
    }

    /// What follows a backslash outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('Q') => {
                self.rest.next();
                let mut quoted = String::new();
                while !quoted.ends_with(r"\E") {
                    match self.rest.next() {
                        Some(next) => quoted.push(next),
                        None => break,
                    }
                }
                let quoted = quoted.strip_suffix(r"\E").unwrap_or(&quoted);
                quoted.chars().for_each(|next| self.literal(next));
                Ok(())
            }
            Some(word @ ('A' | 'z' | 'b' | 'B' | 'd' | 'D' | 's' | 'S' | 'w' | 'W')) => {
                self.written.push('\\');
                self.written.push(*word);
                self.rest.next();
                Ok(())
            }
            _ => {
                let literal = self.character()?;
                self.literal(literal);
                Ok(())
            }
        }
    }

    /// The character that an escape is, after its backslash.
    fn character(&mut self) -> Result<char, String> {
        let Some(next) = self.rest.next() else {
            return Err("trailing backslash at end of expression".to_owned());
        };
        let refused = || format!(r"invalid escape sequence \{next}");
        Ok(match next {
            'a' => '\x07',
            'f' => '\x0c',
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\x0b',
            'x' => self.hexadecimal().ok_or_else(refused)?,
            'p' | 'P' => return Err(r"classes of Unicode (\p) are not supported".to_owned()),
            // A single digit would be a reference to a group, which no automaton can follow; 0 alone is none.
            '0'..='7' if next == '0' || self.rest.peek().is_some_and(|digit| ('0'..='7').contains(digit)) => {
                let mut value = next.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.rest.peek().and_then(|digit| digit.to_digit(8)) else {
                        break;
                    };
                    value = value * 8 + digit;
                    self.rest.next();
                }
                char::from_u32(value).ok_or_else(refused)?
            }
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
            _ => return Err(refused()),
        })
    }

    /// `\xHH` or `\x{H…}`, after the `x`.
    fn hexadecimal(&mut self) -> Option<char> {
        let mut digits = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            loop {
                match self.rest.next()? {
                    '}' => break,
                    next if next.is_ascii_hexdigit() && digits.len() < 8 => digits.push(next),
                    _ => return None,
                }
            }
        } else {
            digits.extend(self.rest.next());
            digits.extend(self.rest.next());
            if digits.len() != 2 {
                return None;
            }
        }
        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)
    }

    /// What follows an opening bracket.
    fn class(&mut self) -> Result<(), String> {
        const MISSING: &str = "missing closing ]";
        let mut class = "[".to_owned();
        if self.rest.next_if_eq(&'^').is_some() {
            class.push('^');
        }
        let (mut first, mut wide) = (true, false);
        loop {
            match self.rest.peek().copied() {
                None => return Err(MISSING.to_owned()),
                Some(']') if !first => break,
                Some('[') if self.named_class(&mut class)? => {
                    first = false;
                    continue;
                }
                _ => first = false,
            }
            let Some(low) = self.member(&mut class)? else { continue };
            let mut ahead = self.rest.clone();
            let ranged = ahead.next() == Some('-') && ahead.next().is_some_and(|next| next != ']');
            let high = if ranged {
                self.rest.next();
                let Some(high) = self.member(&mut String::new())?.filter(|high| *high >= low) else {
                    return Err(format!("invalid character class range {low}-"));
                };
                Some(high)
            } else {
                None
            };
            wide |= !low.is_ascii() || high.is_some_and(|high| !high.is_ascii());
            // Writing to text does not fail.
            let _ = write!(class, r"\x{{{:x}}}", u32::from(low));
            if let Some(high) = high {
                let _ = write!(class, r"-\x{{{:x}}}", u32::from(high));
            }
        }
        self.rest.next();
        class.push(']');
        if wide {
            // Of whole characters, and not of bytes.
            let _ = write!(self.written, "(?u:{class})");
        } else {
            self.written.push_str(&class);
        }
        Ok(())
    }

    /// `[:alpha:]` and its like; whether there is one.
    fn named_class(&mut self, class: &mut String) -> Result<bool, String> {
        let mut ahead = self.rest.clone();
        ahead.next();
        if ahead.next() != Some(':') {
            return Ok(false);
        }
        let rest: String = ahead.collect();
        // Where no colon and bracket close it, it is no name.
        let Some((name, _)) = rest.split_once(":]") else {
            return Ok(false);
        };
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        if !NAMES.contains(&name.trim_start_matches('^')) {
            return Err(format!("invalid character class range [:{name}:]"));
        }
        let _ = write!(class, "[:{name}:]");
        self.rest.nth(name.chars().count() + 3);
        Ok(true)
    }

    /// A character of a class; what is a class of its own is written to `class`.
    fn member(&mut self, class: &mut String) -> Result<Option<char>, String> {
        match self.rest.next() {
            None => Err("missing closing ]".to_owned()),
            Some('\\') => match self.rest.peek() {
                Some(word @ ('d' | 'D' | 's' | 'S' | 'w' | 'W')) => {
                    class.push('\\');
                    class.push(*word);
                    self.rest.next();
                    Ok(None)
                }
                _ => self.character().map(Some),
            },
            Some(other) => Ok(Some(other)),
        }
    }

    fn literal(&mut self, literal: char) {
        if literal.is_ascii() && !literal.is_ascii_alphanumeric() {
            let _ = write!(self.written, r"\x{:02x}", u32::from(literal));
        } else {
            self.written.push(literal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pattern, PatternError};

    #[test]
    fn expressions_mean_what_they_mean_to_re2() {
        for (text, takes, leaves) in [
            ("", &[""][..], &["a"][..]),
            ("/users/{id}", &["/users/{id}"], &["/users/1"]),
            ("a{,2}", &["a{,2}"], &["a", "aa"]),
            ("a{2}", &["aa"], &["a"]),
            ("a{1,}b{1,2}?", &["ab", "aabb"], &["b"]),
            ("a{01}", &["a{01}"], &["a"]),
            ("{", &["{"], &[]),
            ("[[]", &["["], &["a"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[^]a]", &["b"], &["]", "a"]),
            ("[a&&b]", &["a", "&", "b"], &["c"]),
            ("[a~~b]", &["~"], &["c"]),
            ("[a-c-e]", &["b", "-", "e"], &["d"]),
            ("[-a]", &["-", "a"], &["b"]),
            ("[a-]", &["-", "a"], &["b"]),
            ("[+--]", &["+", ",", "-"], &["."]),
            (r"[\d\-x]", &["5", "-", "x"], &["d"]),
            ("[[:alpha:]0]", &["b", "0"], &["1"]),
            ("[[:^alpha:]]", &["1"], &["a"]),
            ("[[:a]", &["[", ":", "a"], &["b"]),
            ("[é]x", &["éx"], &["x"]),
            (r"\Qa.b*\Ec+", &["a.b*cc"], &["axbc"]),
            (r"\Qa\b", &[r"a\b"], &["ab"]),
            (r"\<\_\/\-\:", &["<_/-:"], &[]),
            (r"\101\x42\x{43}\0", &["ABC\0"], &[]),
            (r"\b{start}", &[], &["", "start"]),
            ("(?i)ab", &["AB"], &["b"]),
            ("(?i:a)b", &["Ab"], &["AB"]),
            ("(?P<x>a)(?<y>b)", &["ab"], &["a"]),
            ("a|", &["a", ""], &["b"]),
            ("^/api/v[0-9]+/.*$", &["/api/v1/x"], &["/api/v/x"]),
            (
                r".+\.example\.com(:\d+)?",
                &["a.example.com", "a.example.com:80"],
                &["example.com"],
            ),
        ] {
            let pattern = Pattern::new(text).unwrap();
            for one in takes {
                assert!(pattern.is_match(one), "{text} {one}");
            }
            for one in leaves {
                assert!(!pattern.is_match(one), "{text} {one}");
            }
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for text in [
            "(",
            ")",
            "a)|(b",
            "[",
            "[a",
            "[]",
            "*",
            "a|*",
            "(*)",
            "a**",
            "a+*",
            "a*??",
            "a{2}{3}",
            "a{1001}",
            "a{2,1}",
            r"\",
            r"\1",
            r"\8",
            r"\q",
            r"\Z",
            r"\u0041",
            r"\x4",
            r"[\q]",
            "[b-a]",
            r"[a-\d]",
            "[[:foo:]]",
            "(?x)a",
            "(?u:a)",
            "(?R)",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?P=x)",
            "(?<a.b>c)",
            r"\pL",
            "(?P<x>a)(?P<x>b)",
        ] {
            assert!(matches!(Pattern::new(text), Err(PatternError::Syntax(_))), "{text}");
        }
    }
}
