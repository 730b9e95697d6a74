//! The page for people: one table, no scripts, nothing from elsewhere.

use std::fmt::Write as _;

use super::Status;
use super::status::Shards;
use crate::replicator::CacheStatus;
use crate::settle::LinkStatus;

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">
<meta name=\"viewport\" content=\"width=device-width\">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0 }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
th { border-bottom: 1px solid } .flowing { color: #2a7d2a } .backing-off { color: #b36b00 } .parked { color: #c0282d }
small { opacity: .7 }
</style>
";

/// The page as HTML. Whatever came from outside is escaped.
pub(super) fn render(status: &Status) -> String {
    let (region, role) = (escaped(status.region.as_str()), status.role);
    let ready = if status.ready { "ready" } else { "not ready yet" };
    let mut page = format!("{HEAD}<title>{region} · tablerelay</title></head><body>\n");
    // Writing to a String does not fail.
    let _ = writeln!(page, "<h1>{region} <small>{role}, {ready}</small></h1>");
    let _ = writeln!(page, "<h2>Links</h2>");
    if status.links.is_empty() {
        let _ = writeln!(page, "<p>There are none: this is the only region, or the daemon has just begun.</p>");
    } else {
        let _ = writeln!(
            page,
            "<table><tr><th>to</th><th>state</th><th class=\"n\">lag</th><th>Last Sync Time</th>\
             <th class=\"n\">waiting rows</th><th>oldest waiting</th><th>last error</th></tr>"
        );
        status.links.iter().for_each(|link| row(&mut page, link));
        let _ = writeln!(page, "</table>");
    }
    if let Some(cache) = &status.cache {
        cache_line(&mut page, cache);
    }
    let (own, others) = (count(&status.shards), status.others.values().map(count).sum::<usize>());
    let _ = writeln!(
        page,
        "<p>This daemon carries {own} shards of the region's feeds; {} others carry {others}.</p>",
        status.others.len()
    );
    let _ = writeln!(page, "<h2>Feed</h2>\n<table><tr><th>account</th><th class=\"n\">open records</th></tr>");
    for (account, records) in &status.feed_records {
        let _ = writeln!(page, "<tr><td>{}</td><td class=\"n\">{records}</td></tr>", escaped(account.as_str()));
    }
    let _ = writeln!(page, "</table>");
    throttled(&mut page, status);
    let _ = writeln!(
        page,
        "<p><small>tablerelay {} since {} · <a href=\"/status\">status</a> · <a href=\"/metrics\">metrics</a>\
         </small></p></body></html>",
        status.version, status.started
    );
    page
}

fn throttled(page: &mut String, status: &Status) {
    if status.throttled.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "<h2>Accounts that ask for less</h2>\n<table><tr><th>account</th><th>since</th><th class=\"n\">refused</th>\
         <th class=\"n\">held back</th><th></th></tr>"
    );
    for each in &status.throttled {
        let asked = if each.shut { "only probes are sent" } else { "asked less" };
        let _ = writeln!(
            page,
            "<tr><td>{} of {}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{asked}</td></tr>",
            escaped(each.account.as_str()),
            escaped(each.region.as_str()),
            each.since,
            each.throttled,
            each.held_back
        );
    }
    let _ = writeln!(page, "</table>");
}

fn count(shards: &Shards) -> usize {
    shards.values().map(Vec::len).sum()
}

fn cache_line(page: &mut String, cache: &CacheStatus) {
    let (state, waiting) = (cache.state, cache.backlog_rows);
    let error = escaped(cache.last_error.as_deref().unwrap_or_default());
    let _ = writeln!(page, "<h2>Cache</h2>\n<p class=\"{state}\">{state}, {waiting} rows wait. {error}</p>");
    if let (true, Some(lost), Some(loss)) = (cache.is_wanting(), cache.lost, cache.loss) {
        let _ =
            writeln!(page, "<p class=\"parked\">It was found {loss} at {lost}: warm it, or let readers fill it.</p>");
    }
}

fn row(page: &mut String, link: &LinkStatus) {
    let last_sync = link.last_sync.map_or_else(
        || "not known yet".to_owned(),
        |time| format!("{time} ({:.0} s ago)", link.published.since(time).as_secs_f64()),
    );
    let oldest = link.oldest_waiting.map(|time| time.to_string()).unwrap_or_default();
    let _ = writeln!(
        page,
        "<tr><td>{}</td><td class=\"{state}\">{state}</td><td class=\"n\">{:.3} s</td><td>{last_sync}</td>\
         <td class=\"n\">{}</td><td>{oldest}</td><td>{}</td></tr>",
        escaped(link.destination.as_str()),
        link.lag.as_secs_f64(),
        link.backlog_rows,
        escaped(link.last_error.as_deref().unwrap_or_default()),
        state = link.state,
    );
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
