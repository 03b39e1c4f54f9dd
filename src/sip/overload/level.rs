//! Max-min fair sharing with weights: the level at which all demands below it and the rest cut to it fill a budget.

/// What a source wants, and how much of a share it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub rate: f64,
    pub weight: f64,
}

/// The level for sources of weight 1, so that the sum of `min(rate, weight × level)` is the budget; infinite where all
/// demands fit.
pub(super) fn level(budget: f64, demands: impl Iterator<Item = Demand>) -> f64 {
    let mut demands: Vec<Demand> = demands.filter(|demand| demand.rate > 0.0).collect();
    let mut weights: f64 = demands.iter().map(|demand| demand.weight).sum();
    // The level at which each is satisfied, the easiest first.
    demands.sort_by(|a, b| (a.rate / a.weight).total_cmp(&(b.rate / b.weight)));
    let mut left = budget;
    for demand in demands {
        let level = left / weights;
        if demand.rate > demand.weight * level {
            return level;
        }
        left -= demand.rate;
        weights -= demand.weight;
    }
    f64::INFINITY
}
