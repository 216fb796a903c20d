//! What a notice looks like to those who receive it; pure.

use gemba_core::alert::{Notice, NoticeKind};
use gemba_core::light::Light;
use gemba_core::name::Name;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The moment `unix_ms` milliseconds after 1970, as RFC 3339 has it.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let text = moment.ok().and_then(|moment| moment.format(&Rfc3339).ok());
    text.expect("a node does not run after the year 9999")
}

/// One line that says it all: what is read on a lock screen.
pub(crate) fn headline(notice: &Notice) -> String {
    let Notice { node, station, light, why, kind, .. } = notice;
    match kind {
        NoticeKind::Resolved => format!("resolved: {node} {station} is green again"),
        NoticeKind::Firing => format!("{} {node} {station} is {light}: {why}", light.glyph()),
        NoticeKind::Repeated | NoticeKind::Escalated => {
            format!("{} {node} {station} is {light}, {}: {why}", light.glyph(), kind.word())
        }
    }
}

/// A Slack message: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.
pub(crate) fn slack(notice: &Notice) -> Value {
    let text = escape(&headline(notice));
    let context = format!("since {} · receipt {}", rfc3339(notice.since_unix_ms), notice.receipt);
    json!({
        "text": text,
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": text } },
            { "type": "context", "elements": [{ "type": "mrkdwn", "text": context }] },
        ],
    })
}

/// Slack takes these three for its own.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Alertmanager's webhook, version 4: <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>.
pub(crate) fn alertmanager(route: &Name, notice: &Notice) -> Value {
    let is_over = notice.kind == NoticeKind::Resolved;
    let status = if is_over { "resolved" } else { "firing" };
    let labels = json!({
        "alertname": "GembaLight",
        "node": notice.node,
        "station": notice.station,
        "severity": severity(notice.light),
        "light": notice.light,
    });
    let annotations = json!({
        "summary": headline(notice),
        "description": notice.why,
        "receipt": notice.receipt.to_string(),
        "notice": notice.kind.word(),
    });
    let ends_at = if is_over { rfc3339(notice.unix_ms) } else { "0001-01-01T00:00:00Z".to_owned() };
    json!({
        "version": "4",
        "groupKey": notice.fingerprint(),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": route,
        "groupLabels": { "node": notice.node, "station": notice.station },
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": rfc3339(notice.since_unix_ms),
            "endsAt": ends_at,
            "generatorURL": "",
            "fingerprint": notice.fingerprint(),
        }],
    })
}

/// A PagerDuty event: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events>.
pub(crate) fn pagerduty(routing_key: &str, notice: &Notice) -> Value {
    if notice.kind == NoticeKind::Resolved {
        return json!({
            "routing_key": routing_key,
            "event_action": "resolve",
            "dedup_key": notice.fingerprint(),
        });
    }
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": notice.fingerprint(),
        "payload": {
            // The longest summary they take.
            "summary": headline(notice).chars().take(1024).collect::<String>(),
            "source": notice.node,
            "severity": severity(notice.light),
            "timestamp": rfc3339(notice.unix_ms),
            "component": notice.station,
            "class": notice.kind.word(),
            "custom_details": {
                "why": notice.why,
                "receipt": notice.receipt.to_string(),
                "since": rfc3339(notice.since_unix_ms),
            },
        },
    })
}

/// The word both of them know for a light.
const fn severity(light: Light) -> &'static str {
    match light {
        Light::Green => "info",
        Light::Yellow => "warning",
        Light::Red => "error",
        Light::Purple => "critical",
    }
}

/// The body of a mail.
pub(crate) fn text(notice: &Notice) -> String {
    let Notice { node, station, light, why, receipt, .. } = notice;
    format!(
        "{}\n\nnode     {node}\nstation  {station}\nlight    {light} ({})\nsince    {}\nwhy      {why}\nreceipt  {receipt}\n\n\
         The chain of causes: gemba why {}\nTo take care of it:  gemba alerts acknowledge {station}\n",
        headline(notice),
        light.word(),
        rfc3339(notice.since_unix_ms),
        receipt.0,
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use gemba_core::receipt::Seq;
    use gemba_core::time::Timestamp;

    use super::*;

    pub(crate) fn notice(kind: NoticeKind) -> Notice {
        Notice {
            kind,
            node: "n1".parse().unwrap(),
            station: "line:payment".parse().unwrap(),
            light: Light::Red,
            why: "12 of <500> failed & more".into(),
            since_unix_ms: 1_790_000_000_123,
            unix_ms: 1_790_000_060_000,
            receipt: Seq(42),
            fact_at: Timestamp::START,
        }
    }

    #[test]
    fn slack_gets_text_without_its_own_marks() {
        let message = slack(&notice(NoticeKind::Firing));
        assert_eq!(message["text"], "■ n1 line:payment is red: 12 of &lt;500&gt; failed &amp; more");
        assert_eq!(
            message["blocks"][1]["elements"][0]["text"],
            "since 2026-09-21T14:13:20.123Z · receipt #42"
        );
    }

    #[test]
    fn a_webhook_is_one_of_alertmanager_version_4() {
        let route = "ops".parse().unwrap();
        let firing = alertmanager(&route, &notice(NoticeKind::Firing));
        assert_eq!(firing["version"], "4");
        assert_eq!(firing["status"], "firing");
        assert_eq!(firing["receiver"], "ops");
        let alert = &firing["alerts"][0];
        assert_eq!(alert["labels"]["severity"], "error");
        assert_eq!(
            (&alert["startsAt"], &alert["endsAt"]),
            (&json!("2026-09-21T14:13:20.123Z"), &json!("0001-01-01T00:00:00Z"))
        );
        let resolved = alertmanager(&route, &notice(NoticeKind::Resolved));
        assert_eq!(
            (&resolved["status"], &resolved["alerts"][0]["endsAt"]),
            (&json!("resolved"), &json!("2026-09-21T14:14:20Z"))
        );
        assert_eq!(resolved["alerts"][0]["fingerprint"], firing["alerts"][0]["fingerprint"]);
    }

    #[test]
    fn pagerduty_is_triggered_and_resolved_under_one_key() {
        let trigger = pagerduty("secret", &notice(NoticeKind::Escalated));
        assert_eq!(
            (&trigger["event_action"], &trigger["payload"]["severity"]),
            (&json!("trigger"), &json!("error"))
        );
        assert_eq!(trigger["payload"]["class"], "escalated");
        let resolve = pagerduty("secret", &notice(NoticeKind::Resolved));
        assert_eq!(resolve["event_action"], "resolve");
        assert_eq!(resolve["dedup_key"], trigger["dedup_key"]);
    }
}
