//! The product page's HTML: one file without scripts, fonts or pictures from elsewhere.

use std::fmt::Write;

use super::super::{AnsweredBy, Details, Reviews};
use super::Product;

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f1ea;color:#222}\
header{background:#1d3b53;color:#fff;padding:1rem 2rem}header small{opacity:.8}\
main{max-width:52rem;margin:2rem auto;padding:0 1rem}\
section{background:#fff;border-radius:8px;padding:1rem 1.5rem;margin-bottom:1rem;box-shadow:0 1px 3px #0002}\
.error{border-left:6px solid #b3261e;background:#fdecea}\
blockquote{margin:.5rem 0;padding-left:1rem;border-left:3px solid #ccc}\
.black{color:#222}.red{color:#c62828}.stars{letter-spacing:.15em;font-size:1.2rem}\
dt{font-weight:600;float:left;clear:left;width:9rem}dd{margin-left:9rem}\
footer,.by{color:#666;font-size:.85rem}";

/// The whole page.
pub(super) fn render(product: &Product) -> String {
    let mut page = String::with_capacity(4096);
    let title = product
        .details
        .as_ref()
        .map_or("The bookshop", |details| &details.title);
    page.push_str("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\">");
    add(
        &mut page,
        format_args!("<title>{}</title><style>{STYLE}</style>", escape(title)),
    );
    let user = product.user.as_deref().unwrap_or("a visitor without a name");
    add(
        &mut page,
        format_args!(
            "<header><h1>{}</h1><small>The bookshop. You are {}; <a style=\"color:#fff\" href=\"?user=ada\">be ada</a>\
             </small></header><main>",
            escape(title),
            escape(user)
        ),
    );
    for error in &product.errors {
        add(
            &mut page,
            format_args!("<section class=\"error\">Sorry: {}</section>", escape(error)),
        );
    }
    if let Some(details) = &product.details {
        add_details(&mut page, details);
    }
    if let Some(reviews) = &product.reviews {
        add_reviews(&mut page, reviews);
    }
    add(
        &mut page,
        format_args!("<footer>page: {}</footer></main></html>", by(&product.answered_by)),
    );
    page
}

fn add_details(page: &mut String, details: &Details) {
    let copies = details
        .copies
        .map_or("not known".to_owned(), |copies| copies.to_string());
    page.push_str("<section><h2>Details</h2><dl>");
    for (name, value) in [
        ("Author", details.author.as_str()),
        ("Year", &details.year.to_string()),
        ("Pages", &details.pages.to_string()),
        ("Publisher", &details.publisher),
        ("In stock", &copies),
    ] {
        add(page, format_args!("<dt>{name}</dt><dd>{}</dd>", escape(value)));
    }
    add(
        page,
        format_args!("</dl><p class=\"by\">{}</p></section>", by(&details.answered_by)),
    );
}

fn add_reviews(page: &mut String, reviews: &Reviews) {
    page.push_str("<section><h2>Reviews</h2>");
    // The colour becomes the name of a style class, so only the two that exist are taken.
    let colour = match reviews.colour.as_deref() {
        Some("red") => "red",
        _ => "black",
    };
    for review in &reviews.reviews {
        add(
            page,
            format_args!(
                "<blockquote>{}<br><small>{}</small>",
                escape(&review.text),
                escape(&review.reviewer)
            ),
        );
        if let Some(stars) = review.stars {
            let full = usize::from(stars.min(5));
            add(
                page,
                format_args!(
                    "<div class=\"stars {colour}\" title=\"{stars} of 5\">{}{}</div>",
                    "★".repeat(full),
                    "☆".repeat(5 - full)
                ),
            );
        }
        page.push_str("</blockquote>");
    }
    add(page, format_args!("<p class=\"by\">{}", by(&reviews.answered_by)));
    if let Some(ratings) = &reviews.ratings_by {
        add(page, format_args!("; stars: {}", by(ratings)));
    }
    page.push_str("</p></section>");
}

/// Who answered, escaped.
fn by(who: &AnsweredBy) -> String {
    escape(&format!("{} {}, pod {}", who.service, who.version, who.pod))
}

/// Writing to a String cannot fail.
fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

/// Text that came from elsewhere, safe between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::super::Review;
    use super::*;

    #[test]
    fn escapes_what_came_from_elsewhere() {
        assert_eq!(
            escape("<a href=\"x\">'&'"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;"
        );
    }

    #[test]
    fn shows_stars_errors_and_who_answered() {
        let who = |service: &str, version: &str| AnsweredBy {
            service: service.to_owned(),
            version: version.to_owned(),
            pod: "p-1".to_owned(),
        };
        let product = Product {
            user: None,
            details: None,
            reviews: Some(Reviews {
                id: 0,
                colour: Some("red".to_owned()),
                reviews: vec![Review {
                    reviewer: "R".to_owned(),
                    text: "T".to_owned(),
                    stars: Some(4),
                }],
                ratings_by: Some(who("ratings", "v1")),
                ratings_error: None,
                answered_by: who("reviews", "v3"),
            }),
            errors: vec!["details: <refused>".to_owned()],
            answered_by: who("productpage", "v1"),
        };
        let page = render(&product);
        for part in [
            "★★★★☆",
            "stars red",
            "reviews v3, pod p-1",
            "ratings v1",
            "Sorry: details: &lt;refused&gt;",
        ] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
    }
}
