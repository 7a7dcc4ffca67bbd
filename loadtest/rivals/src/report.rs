//! One Markdown file, a table for each kind of work, on the terminal and in the folder of the run.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::fleet::Fleet;
use crate::idle::Idle;
use crate::load::Load;
use crate::product::{ALL, Product};
use crate::rows::{Contender, Row};
use crate::slice::Slice;
use crate::syscalls::Counter;
use crate::{Effort, Outcome, machine, variable};

pub struct Report {
    file: File,
    counts_instructions: bool,
}

/// A contender and its slices, one for each round.
pub struct Line {
    pub contender: Contender,
    pub slices: Vec<Slice>,
    /// For each request.
    pub calls: Option<f64>,
    pub instructions: Option<f64>,
}

impl Report {
    pub fn new(folder: &Path, effort: &Effort, counter: Option<&Counter>) -> Outcome<Self> {
        let counts_instructions = counter.is_some_and(|counter| counter.counts_instructions);
        let mut report = Self { file: File::create(folder.join("README.md"))?, counts_instructions };
        report.say(&format!("# {}\n", variable("COMPARE_DATE")?))?;
        report.say(&format!("{}. Tidegate at {}.", machine::description(), variable("COMPARE_COMMIT")?))?;
        report.say(&format!(
            "{} rounds, slices of {:?}. {}\n",
            effort.rounds,
            effort.slice,
            Counter::description(counter)
        ))?;
        report.say("| who | version |\n|---|---|")?;
        for product in ALL {
            report.say(&format!("| {} | {} |", product.name(), product.version()))?;
        }
        for (name, version) in [
            ("wrk", machine::first_line(&[&variable("COMPARE_WRK")?, "-v"])),
            ("h2load", machine::first_line(&[&variable("COMPARE_H2LOAD")?, "--version"])),
        ] {
            let version = version.split(" Copyright").next().unwrap_or_default();
            report.say(&format!("| {name} | {version} |"))?;
        }
        report.say("")?;
        Ok(report)
    }

    /// How everybody was started.
    pub fn fleet(&mut self, fleet: &Fleet) -> Outcome<()> {
        let cores = fleet.cores;
        self.say(&format!(
            "With {} thread{}: proxies on core {}, load and origins on core {}.\n",
            cores.threads,
            if cores.threads == 1 { "" } else { "s" },
            cores.proxy,
            cores.others
        ))?;
        self.say("```sh")?;
        for proxy in &fleet.proxies {
            let mut words = proxy.command.clone();
            for word in &mut words {
                // Folders of this machine say nothing; options of Go come before the program.
                if word.starts_with('/') {
                    *word = word.rsplit('/').next().unwrap_or_default().to_owned();
                }
            }
            self.say(&words.join(" "))?;
        }
        self.say("```\n")
    }

    pub fn cost(&mut self, row: &Row, lines: &[Line], left_out: &[String]) -> Outcome<()> {
        let Some(ours) = lines.first().filter(|line| line.contender.product == Some(Product::Tidegate))
        else {
            return Err(format!("{}: nothing to compare with: {left_out:?}", row.key).into());
        };
        self.title(row, &ours.contender.load)?;
        let instructions = if self.counts_instructions { " instructions each |" } else { "" };
        let dashes = if self.counts_instructions { "---|" } else { "" };
        self.say(&format!(
            "| | CPU µs each: min | median | × by min | × by round | requests/s | proxy busy | load and origins busy | \
             system calls each |{instructions} green | failed |\n|---|---|---|---|---|---|---|---|---|{dashes}---|---|"
        ))?;
        for line in lines {
            let costs = line.of(Slice::cost);
            let by_round: Vec<_> = line
                .slices
                .iter()
                .zip(&ours.slices)
                .map(|(theirs, ours)| theirs.cost() / ours.cost())
                .collect();
            let percent = |value: f64| format!("{:.0} %", value * 100.0);
            let calls = line.calls.map_or("–".to_owned(), |calls| format!("{calls:.2}"));
            let instructions = match (self.counts_instructions, line.instructions) {
                (false, _) => String::new(),
                (true, None) => " – |".to_owned(),
                (true, Some(each)) => format!(" {each:.0} |"),
            };
            let green: Vec<_> = line.slices.iter().filter_map(|slice| slice.green).collect();
            self.say(&format!(
                "| {} | {:.1} | {:.1} | {:.2} | {:.2} | {} | {} | {} | {calls} |{instructions} {} | {} |",
                line.contender.label,
                minimum(&costs),
                median(&costs),
                minimum(&costs) / minimum(&ours.of(Slice::cost)),
                median(&by_round),
                thousands(median(&line.of(|slice| slice.counted.requests as f64 / slice.counted.seconds))),
                percent(median(&line.of(|slice| slice.proxy_cpu / slice.wall))),
                percent(median(&line.of(|slice| (slice.load_cpu + slice.origin_cpu) / slice.wall))),
                if green.is_empty() { "–".to_owned() } else { format!("{:.1} %", median(&green) * 100.0) },
                line.slices.iter().map(|slice| slice.counted.failed).sum::<u64>(),
            ))?;
        }
        self.missing(row, left_out)?;
        self.others(lines)
    }

    pub fn added(&mut self, row: &Row, lines: &[Line], left_out: &[String]) -> Outcome<()> {
        let Some(direct) = lines.first().filter(|line| line.contender.product.is_none()) else {
            return Err(format!("{}: the origin does not answer: {left_out:?}", row.key).into());
        };
        self.title(row, &direct.contender.load)?;
        self.say(
            "| | p50 µs: min | median | added to p50 | p90 | p99 | p99.9 | CPU µs each | proxy busy | failed |\n\
             |---|---|---|---|---|---|---|---|---|---|",
        )?;
        let p50 = |line: &Line| line.of(|slice| latency(slice, |latency| latency.p50));
        for line in lines {
            self.say(&format!(
                "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} % | {} |",
                line.contender.label,
                minimum(&p50(line)),
                median(&p50(line)),
                median(&p50(line)) - median(&p50(direct)),
                median(&line.of(|slice| latency(slice, |latency| latency.p90))),
                median(&line.of(|slice| latency(slice, |latency| latency.p99))),
                median(&line.of(|slice| latency(slice, |latency| latency.p999))),
                median(&line.of(Slice::cost)),
                median(&line.of(|slice| slice.proxy_cpu / slice.wall)) * 100.0,
                line.slices.iter().map(|slice| slice.counted.failed).sum::<u64>(),
            ))?;
        }
        self.missing(row, left_out)?;
        self.others(lines)
    }

    pub fn idle(&mut self, row: &Row, lines: &[(Product, Idle)], left_out: &[String]) -> Outcome<()> {
        let Some((Product::Tidegate, ours)) = lines.first() else {
            return Err(format!("{}: nothing to compare with: {left_out:?}", row.key).into());
        };
        self.say(&format!("## {}: {}\n", row.key, row.title))?;
        self.say(&format!("{} connections.\n", ours.connections))?;
        self.say(
            "| | KiB each | × | before, MiB | with them | after they closed |\n|---|---|---|---|---|---|",
        )?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        for (product, idle) in lines {
            self.say(&format!(
                "| {} | {:.1} | {:.2} | {:.1} | {:.1} | {:.1} |",
                product.name(),
                idle.each_kib(),
                idle.each_kib() / ours.each_kib(),
                mib(idle.before_kib),
                mib(idle.kept_kib),
                mib(idle.closed_kib),
            ))?;
        }
        self.missing(row, left_out)?;
        self.say("")
    }

    fn title(&mut self, row: &Row, load: &Load) -> Outcome<()> {
        self.say(&format!("## {}: {}\n", row.key, row.title))?;
        let by = match load {
            Load::Wrk { connections, .. } => format!("wrk -t1 -c{connections}"),
            Load::H2load { connections, streams, .. } => format!("h2load -t1 -c{connections} -m{streams}"),
            Load::Handshakes { .. } => "rivals handshakes".to_owned(),
            Load::OpenLoop { .. } => "rivals open-loop".to_owned(),
        };
        self.say(&format!("Load by `{by}`; {} thread(s) each.\n", row.cores.threads))
    }

    fn missing(&mut self, row: &Row, left_out: &[String]) -> Outcome<()> {
        for (product, why) in &row.cannot {
            self.say(&format!("\n{}: cannot; it {why}.", product.name()))?;
        }
        for failed in left_out {
            eprintln!("\n*** rivals: LEFT OUT of {}: {failed}\n", row.key);
            self.say(&format!("\nLEFT OUT: {failed}."))?;
        }
        for product in ALL.into_iter().filter(|product| product.program().is_none()) {
            self.say(&format!("\n{}: NOT HERE, left out.", product.name()))?;
        }
        Ok(())
    }

    fn others(&mut self, lines: &[Line]) -> Outcome<()> {
        let others: Vec<_> = lines.iter().flat_map(|line| line.of(|slice| slice.others)).collect();
        let most = others.iter().copied().fold(0.0, f64::max);
        self.say(&format!(
            "\nAnything else on the machine took {:.0} % of a core in the median slice, {:.0} % in the worst.\n",
            median(&others) * 100.0,
            most * 100.0
        ))
    }

    fn say(&mut self, text: &str) -> Outcome<()> {
        println!("{text}");
        writeln!(self.file, "{text}")?;
        Ok(())
    }
}

impl Line {
    fn of(&self, value: impl Fn(&Slice) -> f64) -> Vec<f64> {
        self.slices.iter().map(value).collect()
    }
}

fn latency(slice: &Slice, which: impl Fn(&crate::load::Latency) -> f64) -> f64 {
    slice.counted.latency.as_ref().map_or(0.0, which)
}

fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

/// `12,345`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
