//! Header fields on their way through: what concerns a connection stays behind, what tells of the caller is added.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request};

/// Who asked, for whoever is behind proxies. Not in a standard, and what everybody reads.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HTTP: HeaderValue = HeaderValue::from_static("http");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// Those of RFC 9110, 7.6.1, beside `Connection` itself, and two that never were in a standard: they mean this
/// connection, not the request.
const HOP_BY_HOP: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The caller of a connection, in the form that headers take.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    address: HeaderValue,
    /// RFC 7239: IPv6 in brackets and quotes.
    forwarded: String,
}

impl Caller {
    pub(crate) fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let forwarded = match address {
            IpAddr::V4(address) => format!("for={address}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\""),
        };
        Self {
            address: HeaderValue::try_from(address.to_string()).expect("an address is plain text"),
            forwarded,
        }
    }
}

/// What is wrong with a request, which no instance shall see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It does not say for which host it is, or says so twice: two readers might take different ones
    /// (RFC 9112, 3.2).
    Host,
    /// It asks for a tunnel to anywhere.
    Connect,
}

/// Makes the head of a request one for an instance. Returns the protocol it asks to change to, if it does.
pub(crate) fn prepare(
    head: &mut request::Parts,
    caller: &Caller,
    trusts: bool,
) -> Result<Option<HeaderValue>, Malformed> {
    if head.method == Method::CONNECT {
        return Err(Malformed::Connect);
    }
    let host = host(head)?;
    let protocol = asked_protocol(head);
    remove_hop_by_hop(&mut head.headers);
    let headers = &mut head.headers;
    if trusts {
        append(headers, FORWARDED_FOR, &caller.address);
        if headers.contains_key(header::FORWARDED)
            && let Ok(element) = HeaderValue::try_from(format!("{};proto=http", caller.forwarded))
        {
            append(headers, header::FORWARDED, &element);
        }
        headers.entry(FORWARDED_PROTO).or_insert(HTTP);
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    } else {
        headers.insert(FORWARDED_FOR, caller.address.clone());
        headers.remove(header::FORWARDED);
        headers.insert(FORWARDED_PROTO, HTTP);
        headers.insert(FORWARDED_HOST, host.clone());
    }
    headers.insert(header::HOST, host);
    if let Some(protocol) = &protocol {
        ask_for(headers, protocol.clone());
    }
    // Of the target, the path and the query: instances are asked directly.
    if head.uri.scheme().is_some() || head.uri.authority().is_some() {
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(protocol)
}

/// The host a request is for: that of an absolute target, or of HTTP/2, before that of the header (RFC 9112, 3.2.2).
fn host(head: &request::Parts) -> Result<HeaderValue, Malformed> {
    let mut named = head.headers.get_all(header::HOST).iter();
    let first = named.next();
    if named.next().is_some() {
        return Err(Malformed::Host);
    }
    if let Some(authority) = head.uri.authority() {
        return HeaderValue::from_str(authority.as_str()).map_err(|_| Malformed::Host);
    }
    match first {
        Some(host) => Ok(host.clone()),
        // It had none before version 1.1.
        None if head.version < Version::HTTP_11 => Ok(HeaderValue::from_static("")),
        None => Err(Malformed::Host),
    }
}

/// The protocol that a request asks to change to; in HTTP/2 there is no such thing.
fn asked_protocol(head: &request::Parts) -> Option<HeaderValue> {
    if head.version != Version::HTTP_11 || !has_token(&head.headers, "upgrade") {
        return None;
    }
    head.headers.get(header::UPGRADE).cloned()
}

/// Whether `Connection` has this word in it.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    tokens(headers).any(|name| name.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).map(str::trim)
}

/// Says that the connection changes to this protocol.
pub(crate) fn ask_for(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, protocol);
}

/// Leaves out what concerns a connection, and what its sender says concerns it.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers).filter_map(|name| name.parse().ok()).collect();
        // Named by a caller who would hide it from the instance: who asked is not the caller's to say.
        let may_go = |name: &HeaderName| *name != header::HOST && *name != header::CONTENT_LENGTH;
        for name in named.into_iter().filter(may_go) {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Adds to a list that may be there already.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let before = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
    let all = before.chain([value.as_bytes()]).collect::<Vec<_>>().join(&b", "[..]);
    if let Ok(all) = HeaderValue::from_bytes(&all) {
        headers.insert(name, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn prepared(
        fields: &[(&str, &str)],
        trusts: bool,
    ) -> Result<(HeaderMap, Option<HeaderValue>), Malformed> {
        let mut request = Request::builder().uri("/a?b=c");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let protocol = prepare(&mut head, &Caller::new([192, 0, 2, 1].into()), trusts)?;
        assert_eq!(head.uri, "/a?b=c");
        Ok((head.headers, protocol))
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn what_concerns_the_connection_stays_behind_and_nothing_else_can_be_hidden_by_it() {
        let fields = [
            ("host", "api"),
            ("connection", "close, X-Secret, x-forwarded-for"),
            ("connection", "host, content-length"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic eA=="),
            ("content-length", "3"),
            ("traceparent", "00-1-2-01"),
        ];
        let (headers, protocol) = prepared(&fields, false).unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "content-length",
            "host",
            "traceparent",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
        ];
        assert_eq!((names, protocol), (expected.to_vec(), None));
    }

    #[test]
    fn callers_are_believed_only_where_that_is_wanted() {
        let fields = [
            ("host", "api"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("forwarded", "for=198.51.100.7"),
        ];
        let (headers, _) = prepared(&fields, false).unwrap();
        let told = |name| text(&headers, name);
        assert_eq!(told("x-forwarded-for"), "192.0.2.1");
        assert_eq!((told("x-forwarded-proto"), told("x-forwarded-host")), ("http", "api"));
        assert_eq!(told("forwarded"), "");
        let (headers, _) = prepared(&fields, true).unwrap();
        let told = |name| text(&headers, name);
        assert_eq!(told("x-forwarded-for"), "198.51.100.7, 192.0.2.1");
        assert_eq!((told("x-forwarded-proto"), told("x-forwarded-host")), ("https", "shop.example"));
        assert_eq!(told("forwarded"), "for=198.51.100.7, for=192.0.2.1;proto=http");
        assert_eq!(Caller::new([0, 0, 0, 0, 0, 0, 0, 1].into()).forwarded, "for=\"[::1]\"");
    }

    #[test]
    fn a_request_is_for_one_host() {
        assert_eq!(prepared(&[], false), Err(Malformed::Host));
        assert_eq!(prepared(&[("host", "a"), ("host", "b")], false), Err(Malformed::Host));
        let request = Request::builder().uri("http://shop.example/a").header("host", "other");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        prepare(&mut head, &Caller::new([192, 0, 2, 1].into()), false).unwrap();
        assert_eq!((text(&head.headers, "host"), head.uri.to_string().as_str()), ("shop.example", "/a"));
        let (mut head, ()) =
            Request::builder().method("CONNECT").uri("db:5432").body(()).unwrap().into_parts();
        assert_eq!(prepare(&mut head, &Caller::new([192, 0, 2, 1].into()), false), Err(Malformed::Connect));
    }

    #[test]
    fn an_upgrade_is_asked_for_and_not_merely_named() {
        let asked = [("host", "api"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let (headers, protocol) = prepared(&asked, false).unwrap();
        assert_eq!(protocol.unwrap(), "websocket");
        assert_eq!((text(&headers, "connection"), text(&headers, "upgrade")), ("upgrade", "websocket"));
        let (headers, protocol) = prepared(&[("host", "api"), ("upgrade", "websocket")], false).unwrap();
        assert_eq!((protocol, text(&headers, "upgrade")), (None, ""));
    }
}
