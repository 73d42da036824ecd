//! Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

/// Whether a value may fall.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// The text as it grows. Families that got no sample are left out.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: String,
    head: String,
    samples: String,
}

impl Exposition {
    /// Announces a family of samples.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.families.push(Family { name: name.into(), head, samples: String::new() });
    }

    /// One sample of a family that was announced.
    pub fn sample(&mut self, family: &str, labels: &[(&str, &str)], value: f64) {
        let Some(family) = self.families.iter_mut().find(|known| known.name == family) else { return };
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(family.samples, "{}{labels} {value}", family.name);
    }

    /// A family of one sample without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, &[], value);
    }

    /// The whole text.
    pub fn finish(self) -> String {
        let told = self.families.into_iter().filter(|family| !family.samples.is_empty());
        told.map(|family| family.head + &family.samples).collect()
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
