//! The sidecar's metrics and the application's on one page, in the format that the application speaks.
//!
//! A family stands on a page once: one that the application names like one of the sidecar's is left out.

use std::collections::HashSet;

/// Prometheus' text format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page with its content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The text.
    pub text: String,
    /// Its `content-type`.
    pub content_type: String,
}

/// What an application answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The page.
    pub text: String,
    /// `content-type`, as far as it was given.
    pub content_type: String,
}

/// Joins the sidecar's page (in the text format) and those of the application. The first answer says which format it is; one of
/// another format is left out, and said so by the number of those.
#[must_use]
pub fn join(own: &str, answers: &[Answer]) -> (Page, usize) {
    let open = answers
        .first()
        .is_some_and(|answer| is_open_metrics(&answer.content_type));
    let content_type = match answers.first() {
        Some(first) if open => first.content_type.clone(),
        _ => TEXT.to_owned(),
    };
    let mut text = if open { open_metrics(own) } else { own.to_owned() };
    let mut seen: HashSet<String> = declared(&text);
    let mut left_out = 0;
    for answer in answers {
        if is_open_metrics(&answer.content_type) != open {
            left_out += 1;
            continue;
        }
        let new = declared(&answer.text);
        append(&mut text, &answer.text, &seen, &new);
        seen.extend(new);
    }
    if open {
        text.push_str("# EOF\n");
    }
    (Page { text, content_type }, left_out)
}

fn is_open_metrics(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/openmetrics-text")
}

/// The families that a page declares by `# TYPE`.
fn declared(page: &str) -> HashSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Appends a page without what `taken` has, and without its end.
fn append(text: &mut String, page: &str, taken: &HashSet<String>, own: &HashSet<String>) {
    for line in page.lines() {
        let family = match line.strip_prefix("# ") {
            Some("EOF") => continue,
            Some(comment) => {
                let mut words = comment.split_whitespace();
                match words.next() {
                    Some("TYPE" | "HELP" | "UNIT") => words.next(),
                    _ => None,
                }
            }
            None => line.split(['{', ' ', '\t']).next().filter(|name| !name.is_empty()),
        };
        if family.is_some_and(|name| is_taken(name, taken, own)) {
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
}

/// Whether a sample or declaration is of a family that stands on the page already.
fn is_taken(name: &str, taken: &HashSet<String>, own: &HashSet<String>) -> bool {
    if taken.contains(name) {
        return true;
    }
    // What the page declares itself is its own, whatever it ends in.
    if own.contains(name) {
        return false;
    }
    ["_bucket", "_sum", "_count", "_total", "_created", "_info"]
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix))
        .any(|family| taken.contains(family))
}

/// The sidecar's page in OpenMetrics: there a counter's family has its name without `_total`.
fn open_metrics(own: &str) -> String {
    let counters: HashSet<&str> = own
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(own.len());
    for line in own.lines() {
        let declaration = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP "));
        let name = declaration.and_then(|rest| rest.split(' ').next());
        match name.filter(|name| counters.contains(name)) {
            Some(name) => {
                let (start, end) = line.split_at("# TYPE ".len());
                let rest = end.strip_prefix(name).unwrap_or_default();
                text.push_str(start);
                match name.strip_suffix("_total") {
                    Some(family) => {
                        text.push_str(family);
                        text.push_str(rest);
                    }
                    // Without the suffix it is no counter there.
                    None => {
                        text.push_str(name);
                        text.push_str(if rest == " counter" { " unknown" } else { rest });
                    }
                }
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 1\n\
                       # HELP odd Odd.\n# TYPE odd counter\nodd 2\n\
                       # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";

    fn answer(text: &str, content_type: &str) -> Answer {
        Answer {
            text: text.to_owned(),
            content_type: content_type.to_owned(),
        }
    }

    #[test]
    fn text_is_appended_and_families_stand_once() {
        let app = answer(
            "# TYPE b counter\nb 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 9\nh_sum 9\nh_count 9\n# TYPE h_count_total \
             counter\nh_count_total 3\n# a comment\na_total 7\nlast 1",
            "text/plain; version=0.0.4",
        );
        let (page, left_out) = join(OWN, &[app]);
        assert_eq!(
            page.text,
            format!("{OWN}# TYPE b counter\nb 1\n# TYPE h_count_total counter\nh_count_total 3\n# a comment\nlast 1\n")
        );
        assert_eq!((page.content_type.as_str(), left_out), (TEXT, 0));
    }

    #[test]
    fn openmetrics_stays_openmetrics() {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let app = answer("# TYPE b counter\nb_total 1\nb_created 2\n# EOF\n", kind);
        let text = answer("c 1\n", "text/plain");
        let (page, left_out) = join(OWN, &[app, text]);
        assert_eq!(
            page.text,
            "# HELP a A.\n# TYPE a counter\na_total{x=\"1\"} 1\n# HELP odd Odd.\n# TYPE odd unknown\nodd 2\n\
             # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n\
             # TYPE b counter\nb_total 1\nb_created 2\n# EOF\n"
        );
        assert_eq!((page.content_type.as_str(), left_out), (kind, 1));
    }

    #[test]
    fn without_an_answer_the_page_is_the_sidecars() {
        let (page, _) = join(OWN, &[]);
        assert_eq!((page.text.as_str(), page.content_type.as_str()), (OWN, TEXT));
    }
}
