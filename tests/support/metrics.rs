//! Reads the text format of Prometheus: a snapshot of a gateway's metrics.

/// All samples of one scrape.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Metrics {
    pub fn parse(text: &str) -> Metrics {
        Metrics(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// All samples of that name which carry these labels.
    pub fn samples<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.iter().any(|(k, v)| k == key && v == value))
        })
    }

    /// The sum of the samples of that name which carry these labels; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.samples(name, labels).map(|sample| sample.value).peekable();
        values.peek().is_some().then(|| values.sum())
    }

    /// As [`sum`](Metrics::sum); panics if there is no such sample, with those of the same name.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels).unwrap_or_else(|| {
            let near: Vec<_> = self.0.iter().filter(|sample| sample.name == name).collect();
            panic!("no sample {name}{labels:?}; there is {near:?}")
        })
    }

    /// The names of all metrics, histograms without their endings.
    pub fn names(&self) -> std::collections::BTreeSet<String> {
        self.0
            .iter()
            .map(|sample| {
                ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| sample.name.strip_suffix(end))
                    .unwrap_or(&sample.name)
                    .to_owned()
            })
            .collect()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = match line.find(['{', ' ']) {
        Some(end) => line.split_at(end),
        None => return None,
    };
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => {
            let (labels, value) = rest.rsplit_once('}')?;
            (labels, value)
        }
        None => ("", rest),
    };
    // No label value of ours holds a comma or an escaped quote.
    let labels = labels
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim_matches('"').to_owned()))
        .collect();
    let value = value.trim().parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}
