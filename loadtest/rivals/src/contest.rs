//! Rows one after the other; within a row, rounds in which each contender has a slice.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::fleet::{Fleet, get};
use crate::product::Product;
use crate::report::{Line, Report};
use crate::rows::{Contender, Row, Work};
use crate::syscalls::Counter;
use crate::{Effort, Outcome, idle, slice};

const WARM_UP: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(1);
/// As many different users and visitors as the rows about them have.
const PEOPLE: usize = 4096;

/// `folder` goes away afterwards, `kept` stays.
pub fn run(rows: &[Row], effort: &Effort, folder: &Path, kept: &Path) -> Outcome<()> {
    fs::create_dir_all(kept)?;
    let counter = Counter::find();
    let mut raw = File::create(kept.join("slices.jsonl"))?;
    let mut report = Report::new(kept, effort, counter.as_ref())?;
    // Rows on the same cores share their proxies; for memory they have to be new, because allocators keep what they once had.
    let is_idle = |row: &Row| matches!(row.work, Work::Idle { .. });
    for same in rows.chunk_by(|one, other| one.cores == other.cores && !is_idle(one) && !is_idle(other)) {
        let fleet = Fleet::start(same[0].cores, folder, kept)?;
        report.fleet(&fleet)?;
        for row in same {
            eprintln!("rivals: {} …", row.key);
            let mut contest =
                Contest { row, fleet: &fleet, effort, folder, raw: &mut raw, left_out: Vec::new() };
            match &row.work {
                Work::Cost(contenders) => {
                    let lines = contest.slices(contenders, counter.as_ref())?;
                    report.cost(row, &lines, &contest.left_out)?;
                }
                Work::Added(contenders) => {
                    let lines = contest.slices(contenders, None)?;
                    report.added(row, &lines, &contest.left_out)?;
                }
                Work::Idle { tls } => {
                    let lines = contest.idle(*tls)?;
                    report.idle(row, &lines, &contest.left_out)?;
                }
            }
        }
    }
    println!("The tables, the raw data and the configurations: {}", kept.display());
    Ok(())
}

struct Contest<'a> {
    row: &'a Row,
    fleet: &'a Fleet,
    effort: &'a Effort,
    folder: &'a Path,
    raw: &'a mut File,
    /// Who failed at this row, and how.
    left_out: Vec<String>,
}

impl Contest<'_> {
    fn slices(&mut self, contenders: &[Contender], counter: Option<&Counter>) -> Outcome<Vec<Line>> {
        let mut lines: Vec<_> = contenders
            .iter()
            .filter(|one| one.product.is_none_or(|product| self.fleet.proxy(product).is_some()))
            .map(|one| Line { contender: one.clone(), slices: Vec::new(), calls: None, instructions: None })
            .collect();
        if self.row.key == "modes" {
            self.write_people()?;
        }
        // Who fails under the first load would spoil the row for all.
        let mut left_out = Vec::new();
        lines.retain(|line| match self.warm_up(&line.contender) {
            Ok(()) => true,
            Err(error) => {
                left_out.push(error.to_string());
                false
            }
        });
        self.left_out.extend(left_out);
        for round in 0..self.effort.rounds {
            // Everybody comes first once: whoever comes after a costly one may find the machine warmer.
            for at in 0..lines.len() {
                let at = (at + round as usize) % lines.len();
                let line = &mut lines[at];
                let slice = self.slice(&line.contender, self.effort.slice)?;
                let mut record = serde_json::to_value(&slice)?;
                record["row"] = json!(self.row.key);
                record["round"] = json!(round);
                record["who"] = json!(line.contender.label);
                writeln!(self.raw, "{record}")?;
                line.slices.push(slice);
            }
        }
        for line in &mut lines {
            let (Some(counter), Some(product)) = (counter, line.contender.product) else { continue };
            let Some(proxy) = self.fleet.proxy(product) else { continue };
            let counting = counter.start(&proxy.process.pids())?;
            let slice = self.slice(&line.contender, COUNTED);
            let counts = counting.end()?;
            let requests = slice?.counted.requests.max(1) as f64;
            line.calls = Some(counts.calls as f64 / requests);
            line.instructions = counts.instructions.map(|instructions| instructions as f64 / requests);
            let record = json!({
                "row": self.row.key, "who": line.contender.label, "syscalls_each": line.calls,
                "instructions_each": line.instructions,
            });
            writeln!(self.raw, "{record}")?;
        }
        Ok(lines)
    }

    fn warm_up(&self, contender: &Contender) -> Outcome<()> {
        let counted = self.slice(contender, WARM_UP)?.counted;
        if counted.failed * 100 > counted.requests {
            return Err(format!(
                "{}: {} answers, {} failures",
                contender.label, counted.requests, counted.failed
            )
            .into());
        }
        Ok(())
    }

    fn slice(&self, contender: &Contender, time: Duration) -> Outcome<slice::Slice> {
        let proxy = contender.product.and_then(|product| self.fleet.proxy(product));
        slice::run(self.fleet, proxy, &contender.load, time, self.folder)
            .map_err(|error| format!("{}: {error}", contender.label).into())
    }

    fn idle(&mut self, tls: bool) -> Outcome<Vec<(Product, idle::Idle)>> {
        let mut lines = Vec::new();
        for proxy in &self.fleet.proxies {
            if self.row.cannot.iter().any(|(who, _)| *who == proxy.product) {
                continue;
            }
            let idle = match idle::run(self.fleet, proxy, tls, self.effort, self.folder) {
                Ok(idle) => idle,
                Err(error) => {
                    self.left_out.push(format!("{}: {error}", proxy.product.name()));
                    continue;
                }
            };
            let mut record = serde_json::to_value(&idle)?;
            record["row"] = json!(self.row.key);
            record["who"] = json!(proxy.product.name());
            writeln!(self.raw, "{record}")?;
            lines.push((proxy.product, idle));
        }
        Ok(lines)
    }

    /// Header lines for the requests of the modes: nobody in particular, users, visitors of Tidegate who come back with their
    /// cookies, and those of the others, a tenth of them on green.
    fn write_people(&self) -> Outcome<()> {
        let lines =
            |line: &dyn Fn(usize) -> String| (0..PEOPLE).map(|at| line(at) + "\n").collect::<String>();
        fs::write(self.folder.join("any.txt"), lines(&|at| format!("x-any: {at}")))?;
        fs::write(self.folder.join("users.txt"), lines(&|at| format!("x-user-id: user-{at}")))?;
        let side = |at: usize| if at.is_multiple_of(10) { "green" } else { "blue" };
        fs::write(self.folder.join("sides.txt"), lines(&|at| format!("cookie: side={}", side(at))))?;
        let tidegate = self.fleet.proxy(Product::Tidegate).ok_or("no Tidegate")?;
        let mut returning = String::new();
        for _ in 0..PEOPLE {
            let (head, _) = get(&tidegate.addresses.plain, "/cookie", "")?;
            let cookie = set_cookie(&head).ok_or("a new visitor got no cookie")?;
            returning += &format!("cookie: {cookie}\n");
        }
        fs::write(self.folder.join("returning.txt"), &returning)?;
        let last = returning.lines().last().unwrap_or_default();
        let (head, _) = get(&tidegate.addresses.plain, "/cookie", &format!("{last}\r\n"))?;
        match set_cookie(&head) {
            None => Ok(()),
            Some(_) => Err("a returning visitor got a new cookie".into()),
        }
    }
}

/// Name and value of the cookie that an answer sets.
fn set_cookie(head: &str) -> Option<&str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("set-cookie").then(|| value.trim().split(';').next())?
    })
}
