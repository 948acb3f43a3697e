//! Published ports in columns.

use std::fmt::Write;

use super::{Published, Range};

const HEAD: [&str; 6] = ["HOST", "CONTAINER", "PACKETS", "BYTES", "OPEN", "REFUSED"];

/// A figure that the backend does not count is a `-`.
pub(super) fn render(published: &Published) -> String {
    if published.ports.is_empty() {
        return format!("{} publishes no ports\n", published.container);
    }
    let mut ranges: Vec<&Range> = published.ports.iter().collect();
    ranges.sort_by_key(|r| (r.container_port, r.protocol.as_str(), r.host_ip.as_str(), r.host_port));
    let figure = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let rows: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(ranges.into_iter().map(|r| {
            let container = format!("{}/{}", span(r.container_port, r.count), r.protocol);
            let figures = [r.packets, r.bytes, r.open_flows, r.refusals].map(figure);
            let [packets, bytes, open, refused] = figures;
            [host(r), container, packets, bytes, open, refused]
        }))
        .collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        // Names to the left, numbers to the right.
        let [w0, w1, w2, w3, w4, w5] = widths;
        let [host, container, packets, bytes, open, refused] = row;
        let _ = writeln!(
            out,
            "{host:w0$}  {container:w1$}  {packets:>w2$}  {bytes:>w3$}  {open:>w4$}  {refused:>w5$}"
        );
    }
    if !published.running {
        let _ = writeln!(out, "{} does not run: this is what its next start publishes", published.container);
    }
    out
}

fn host(range: &Range) -> String {
    let ip = match range.host_ip.as_str() {
        "" => "*".to_owned(),
        ip if ip.contains(':') => format!("[{ip}]"),
        ip => ip.to_owned(),
    };
    match range.host_port {
        0 => format!("{ip}:any"),
        port => format!("{ip}:{}", span(port, range.count)),
    }
}

fn span(first: u32, count: u32) -> String {
    if count > 1 { format!("{first}-{}", first + count - 1) } else { first.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_lines_and_what_is_not_counted_is_a_dash() {
        let range = |ip: &str, host_port, container_port, count| Range {
            protocol: "tcp".into(),
            host_ip: ip.into(),
            host_port,
            container_port,
            count,
            ..Range::default()
        };
        let counted = Range { packets: Some(12), open_flows: Some(1), ..range("::1", 8080, 80, 1) };
        let ports = vec![range("", 9000, 9000, 10), counted, range("127.0.0.1", 0, 81, 1)];
        let text = render(&Published { container: "web".into(), running: true, ports });
        assert_eq!(
            text,
            "HOST           CONTAINER      PACKETS  BYTES  OPEN  REFUSED\n\
             [::1]:8080     80/tcp              12      -     1        -\n\
             127.0.0.1:any  81/tcp               -      -     -        -\n\
             *:9000-9009    9000-9009/tcp        -      -     -        -\n"
        );
    }
}
