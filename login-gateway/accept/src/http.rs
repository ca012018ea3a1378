//! As much of HTTP/1 as a health check and a Prometheus scrape need: one GET or HEAD, one answer,
//! then the connection is closed. Which pages exist is decided by the caller.

/// Longest request that is read, in bytes, headers included.
pub const MAX_REQUEST: usize = 2048;

/// A request that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The path, without a query.
    pub path: &'a str,
    /// Whether only the headers of the answer are wanted.
    pub head: bool,
}

/// Why there is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRequest {
    /// The end of the headers is not there yet.
    NeedsMore,
    /// It is not HTTP/1, or too long.
    Bad,
    /// It is, with a method that no page has.
    Method,
}

/// Reads one request at the start of `bytes`.
///
/// # Errors
/// [`NoRequest`].
pub fn parse(bytes: &[u8]) -> Result<Request<'_>, NoRequest> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let Some(end) = end.filter(|end| end + 4 <= MAX_REQUEST) else {
        let hopeless = bytes.len() >= MAX_REQUEST || !looks_like_text(bytes);
        return Err(if hopeless {
            NoRequest::Bad
        } else {
            NoRequest::NeedsMore
        });
    };
    let line = bytes[..end].split(|b| *b == b'\r').next().unwrap_or(b"");
    let line = std::str::from_utf8(line).map_err(|_| NoRequest::Bad)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(NoRequest::Bad);
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") || !target.starts_with('/') {
        return Err(NoRequest::Bad);
    }
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(NoRequest::Method),
    };
    let path = target.split('?').next().unwrap_or(target);
    Ok(Request { path, head })
}

/// Requests begin with a method; anything else need not be waited for.
fn looks_like_text(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(u8::is_ascii_uppercase)
}

/// The bytes of an answer.
pub fn answer(status: &str, content_type: &str, body: &str, head: bool) -> Vec<u8> {
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let headers = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        length = body.len(),
    );
    let body = if head { "" } else { body };
    [headers.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_requests_are_understood() {
        let check = |bytes: &[u8], expected: Result<(&str, bool), NoRequest>| {
            let got = parse(bytes).map(|request| (request.path, request.head));
            assert_eq!(got, expected, "{}", String::from_utf8_lossy(bytes));
        };
        check(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            Ok(("/healthz", false)),
        );
        check(b"HEAD /readyz?a=b HTTP/1.0\r\n\r\n", Ok(("/readyz", true)));
        check(b"GET / HTTP/1.1\r\n\r\ntrailing", Ok(("/", false)));
        check(b"POST /healthz HTTP/1.1\r\n\r\n", Err(NoRequest::Method));
        check(b"GET /healthz\r\n\r\n", Err(NoRequest::Bad));
        check(b"GET /a b HTTP/1.1\r\n\r\n", Err(NoRequest::Bad));
        check(b"GET http://x/ HTTP/1.1\r\n\r\n", Err(NoRequest::Bad));
        check(b"GET / HTTP/2.0\r\n\r\n", Err(NoRequest::Bad));
        check(b"GET /\xff HTTP/1.1\r\n\r\n", Err(NoRequest::Bad));
        check(b"\x16\x03\x01", Err(NoRequest::Bad));
        check(b"", Err(NoRequest::NeedsMore));
        check(&[b'A'; MAX_REQUEST - 1], Err(NoRequest::NeedsMore));
        check(&[b'A'; MAX_REQUEST], Err(NoRequest::Bad));
        let whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..whole.len() {
            check(&whole[..cut], Err(NoRequest::NeedsMore));
        }
    }
}
