//! How long the operator takes, as its histograms tell. No IO.

/// Histograms of an operator since its start, or between two readings.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// To decide what to write next.
    pub decisions: Histogram,
    /// From a decoded change to the grant that it leads to.
    pub grants: Histogram,
}

/// One histogram.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Upper bounds in seconds, with the number of observations up to each.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    pub count: f64,
}

impl Times {
    /// From the text that Prometheus reads.
    pub fn read(text: &str) -> Self {
        Self {
            decisions: Histogram::read(text, "livepatch_decision_seconds"),
            grants: Histogram::read(text, "livepatch_grant_seconds"),
        }
    }

    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            decisions: self.decisions.since(&before.decisions),
            grants: self.grants.since(&before.grants),
        }
    }
}

impl Histogram {
    fn read(text: &str, name: &str) -> Self {
        let mut histogram = Self::default();
        for line in text.lines() {
            let Some((what, value)) = line.strip_prefix(name).and_then(|rest| rest.rsplit_once(' ')) else {
                continue;
            };
            let value = value.parse().unwrap_or(0.0);
            let bound = what
                .strip_prefix("_bucket{le=\"")
                .map(|rest| rest.trim_end_matches("\"}"));
            match (what, bound) {
                (_, Some("+Inf")) => histogram.buckets.push((f64::INFINITY, value)),
                (_, Some(bound)) => histogram.buckets.push((bound.parse().unwrap_or(0.0), value)),
                ("_sum", _) => histogram.sum = value,
                ("_count", _) => histogram.count = value,
                _ => {}
            }
        }
        histogram
    }

    fn since(&self, before: &Self) -> Self {
        let of = |index: usize| before.buckets.get(index).map_or(0.0, |(_, number)| *number);
        let buckets = self.buckets.iter().enumerate();
        Self {
            buckets: buckets
                .map(|(index, (bound, number))| (*bound, number - of(index)))
                .collect(),
            sum: self.sum - before.sum,
            count: self.count - before.count,
        }
    }

    /// Milliseconds on average.
    pub fn mean(&self) -> f64 {
        if self.count > 0.0 {
            self.sum / self.count * 1000.0
        } else {
            0.0
        }
    }

    /// The bucket in which the quantile is, in milliseconds: no less than this, and no more than that.
    fn quantile(&self, quantile: f64) -> (f64, f64) {
        let mut below = 0.0;
        for (bound, number) in &self.buckets {
            if *number >= quantile * self.count {
                return (below * 1000.0, bound * 1000.0);
            }
            below = *bound;
        }
        (below * 1000.0, f64::INFINITY)
    }

    /// Median and 99th percentile in words.
    pub fn told(&self) -> String {
        if self.count < 1.0 {
            return "none".to_owned();
        }
        let part = |(from, to): (f64, f64)| format!("{from} to {to}");
        format!(
            "p50 {}, p99 {} (mean {:.1}, {} of them)",
            part(self.quantile(0.5)),
            part(self.quantile(0.99)),
            self.mean(),
            self.count
        )
    }
}
