use std::sync::Mutex;

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A sink that lets a write go on only when told to.
struct Gate(Receiver<()>, Paper);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn entry<'a>() -> AccessEntry<'a> {
    AccessEntry {
        time: Timestamp::from_millis(1_767_225_599_123),
        request_id: "r-1",
        trace_id: None,
        client_addr: IpAddr::from([203, 0, 113, 7]),
        method: "GET",
        host: Some("shop.example.com"),
        path: "/cart",
        query: Some("token=secret"),
        status: Some(200),
        bytes: 1234,
        bytes_received: None,
        duration: Duration::from_micros(2500),
        ttfb: Some(Duration::from_micros(1500)),
        upstream: None,
        service: Some("shop"),
        variant: Some(Variant::Green),
        reason: Some(Reason::Cookie),
        generation: Some(41),
        endpoint: Some("10.0.0.21:3000"),
        retries: 0,
        error: None,
    }
}

fn settings(write: AccessLogWrite) -> AccessLogSettings {
    AccessLogSettings { write, ..AccessLogSettings::default() }
}

fn never() -> Bucket {
    unreachable!("no chance is needed here")
}

#[test]
fn a_line_tells_the_request_and_leaves_out_what_is_absent() {
    let line: Value = serde_json::from_str(&entry().line(false)).unwrap();
    let expected = json!({
        "time": "2025-12-31T23:59:59.123Z", "request_id": "r-1", "client_addr": "203.0.113.7",
        "method": "GET", "host": "shop.example.com", "path": "/cart", "status": 200, "bytes": 1234,
        "duration_us": 2500, "ttfb_us": 1500, "service": "shop", "variant": "green",
        "reason": "cookie", "generation": 41, "endpoint": "10.0.0.21:3000", "retries": 0,
    });
    assert_eq!(line, expected);
}

#[test]
fn a_query_is_written_only_when_asked_for() {
    assert!(!entry().line(false).contains("secret"));
    assert!(entry().line(true).contains(r#""path":"/cart?token=secret""#));
    assert!(AccessEntry { query: None, ..entry() }.line(true).contains(r#""path":"/cart""#));
}

#[test]
fn sampling_keeps_its_share_and_every_failure() {
    let one_percent = AccessLogWrite::Sampled { share: Weight::from_percent(1).unwrap() };
    let paper = Paper::default();
    let log = AccessLog::start(&settings(one_percent), Box::new(paper.clone())).unwrap();
    let at = |index| move || Bucket::from_index(index).unwrap();
    log.handle().record(&AccessEntry { request_id: "in", ..entry() }, at(999));
    log.handle().record(&AccessEntry { request_id: "out", ..entry() }, at(1000));
    log.handle().record(&AccessEntry { request_id: "failed", status: Some(502), ..entry() }, never);
    log.handle().record(&AccessEntry { request_id: "cut", error: Some("truncated"), ..entry() }, never);
    assert!(log.close(PATIENCE));
    let ids: Vec<_> = paper.lines().iter().map(|line| line["request_id"].clone()).collect();
    assert_eq!(ids, ["in", "failed", "cut"]);
}

#[test]
fn a_log_that_is_off_writes_nothing_and_asks_for_no_chance() {
    let paper = Paper::default();
    let log = AccessLog::start(&settings(AccessLogWrite::Off), Box::new(paper.clone())).unwrap();
    assert!(log.handle().is_off());
    log.handle().record(&AccessEntry { status: Some(500), ..entry() }, never);
    assert_eq!(log.dropped(), 0);
    assert!(log.close(PATIENCE));
    assert!(paper.lines().is_empty());
}

#[test]
fn a_stuck_target_costs_lines_but_no_waiting() {
    let (open, gate) = mpsc::channel();
    let paper = Paper::default();
    let sink = Box::new(Gate(gate, paper.clone()));
    let log = AccessLog::start(&settings(AccessLogWrite::All), sink).unwrap();
    let handle = log.handle();
    // More than the channel and the writer's buffer can hold.
    let lines = 2 * LINES_MAX as u64;
    for _ in 0..lines {
        handle.record(&entry(), never);
    }
    let dropped = log.dropped();
    assert!(dropped > 0 && dropped < lines, "{dropped}");
    drop(open);
    assert!(log.close(PATIENCE));
    assert_eq!(paper.lines().len() as u64, lines - dropped);
    handle.record(&entry(), never);
    assert_eq!(handle.dropped(), dropped + 1, "a closed log counts what comes too late");
}

#[test]
fn what_came_while_the_target_was_slow_is_written_before_the_log_is_closed() {
    /// Says when it is written to.
    struct Door(mpsc::Sender<()>, Gate);
    impl Write for Door {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let ((open, gate), (knocks, knocked)) = (mpsc::channel(), mpsc::channel());
    let paper = Paper::default();
    let sink = Box::new(Door(knocks, Gate(gate, paper.clone())));
    let log = AccessLog::start(&settings(AccessLogWrite::All), sink).unwrap();
    let handle = log.handle();
    handle.record(&entry(), never);
    knocked.recv().unwrap();
    (0..5).for_each(|_| handle.record(&entry(), never));
    let closing = std::thread::spawn(move || log.close(PATIENCE));
    while !handle.shared.closing.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    drop(open);
    assert!(closing.join().unwrap());
    assert_eq!((paper.lines().len(), handle.dropped()), (6, 0));
}

#[test]
fn lines_that_a_full_disk_refuses_are_counted() {
    let log = AccessLog::start(&settings(AccessLogWrite::All), Box::new(Broken)).unwrap();
    let handle = log.handle();
    (0..3).for_each(|_| handle.record(&entry(), never));
    assert!(log.close(PATIENCE));
    assert_eq!(handle.dropped(), 3);
}

#[test]
fn a_file_is_appended_to_and_a_missing_folder_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let target = AccessLogTarget::File(path.clone());
    let to_file = AccessLogSettings { target, ..settings(AccessLogWrite::All) };
    for _ in 0..2 {
        let log = AccessLog::open(&to_file).unwrap();
        log.handle().record(&entry(), never);
        assert!(log.close(PATIENCE));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);

    let missing = AccessLogTarget::File(folder.path().join("no/access.log"));
    let error = AccessLog::open(&AccessLogSettings { target: missing, ..to_file }).unwrap_err();
    assert!(error.to_string().starts_with("open the access log "), "{error}");
}

proptest! {
    #[test]
    fn text_from_outside_comes_back_as_it_was_and_controls_nothing(text in any::<String>(), control in "[\\x00-\\x1f\\x7f-\\x9f\u{2028}\u{2029}\"\\\\]{0,8}") {
        let text = format!("{text}{control}{text}");
        let line = AccessEntry { path: &text, host: Some(&text), ..entry() }.line(false);
        let parsed: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(parsed["path"].as_str(), Some(text.as_str()));
        prop_assert_eq!(parsed["host"].as_str(), Some(text.as_str()));
        let body = line.strip_suffix('\n').unwrap();
        prop_assert!(!body.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{:?}", body);
    }
}
