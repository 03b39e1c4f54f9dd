//! In which order the trunks of a rule are tried.

use super::{TrunkIndex, TrunkOrder, WeightedTrunk};

/// Orders trunks. `draw` is the call's randomness; `cost` prices a trunk for this call, in any unit.
pub fn ordered(
    trunks: &[WeightedTrunk],
    order: TrunkOrder,
    draw: u64,
    cost: impl Fn(TrunkIndex) -> Option<i64>,
) -> Vec<TrunkIndex> {
    let listed = trunks.iter().map(|entry| entry.trunk);
    match order {
        TrunkOrder::Listed => listed.collect(),
        TrunkOrder::LeastCost => {
            let mut priced: Vec<(Option<i64>, TrunkIndex)> =
                listed.map(|trunk| (cost(trunk), trunk)).collect();
            // A stable sort keeps the listed order among equals.
            priced.sort_by_key(|(cost, _)| (cost.is_none(), cost.unwrap_or(0)));
            priced.into_iter().map(|(_, trunk)| trunk).collect()
        }
        TrunkOrder::Weighted => weighted(trunks, draw),
    }
}

/// Draws one after the other without putting back, so that the first place has exactly the weights' shares.
/// A weight of 0 is only tried when all others failed.
fn weighted(trunks: &[WeightedTrunk], draw: u64) -> Vec<TrunkIndex> {
    let mut left = trunks.to_vec();
    let mut seed = draw;
    let mut drawn = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let total: u64 = left.iter().map(|entry| u64::from(entry.weight)).sum();
        let mut index = 0;
        if total > 0 {
            seed = splitmix(seed);
            // The product's upper half is uniform below `total` (Lemire 2019).
            let mut ticket = ((u128::from(seed) * u128::from(total)) >> 64) as u64;
            for (candidate, entry) in left.iter().enumerate() {
                if ticket < u64::from(entry.weight) {
                    index = candidate;
                    break;
                }
                ticket -= u64::from(entry.weight);
            }
        }
        drawn.push(left.remove(index).trunk);
    }
    drawn
}

/// The next value of a SplitMix64 generator (Steele, Lea, Flood 2014).
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trunks(weights: &[u32]) -> Vec<WeightedTrunk> {
        let entry = |(index, weight): (usize, &u32)| WeightedTrunk {
            trunk: TrunkIndex(index as u16),
            weight: *weight,
        };
        weights.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn the_cheapest_goes_first_and_the_unpriced_last() {
        let costs = [Some(30), None, Some(10), Some(30)];
        let order = ordered(&trunks(&[1; 4]), TrunkOrder::LeastCost, 7, |trunk| costs[usize::from(trunk.0)]);
        assert_eq!(order.iter().map(|trunk| trunk.0).collect::<Vec<_>>(), [2, 0, 3, 1]);
    }

    #[test]
    fn the_first_place_is_shared_as_the_weights_say() {
        let list = trunks(&[70, 30, 0]);
        let mut first = [0; 3];
        for draw in 0..10_000 {
            let order = ordered(&list, TrunkOrder::Weighted, draw, |_| None);
            first[usize::from(order[0].0)] += 1;
            assert_eq!(order[2], TrunkIndex(2), "a weight of 0 is the last resort");
        }
        assert!((6_800..7_200).contains(&first[0]), "{first:?}");
        assert_eq!(first[2], 0);
    }

    proptest! {
        #[test]
        fn no_trunk_is_lost_or_doubled(weights in prop::collection::vec(0u32..=u32::MAX, 0..8), draw: u64) {
            let list = trunks(&weights);
            for order in [TrunkOrder::Listed, TrunkOrder::Weighted, TrunkOrder::LeastCost] {
                let mut result: Vec<u16> = ordered(&list, order, draw, |trunk| {
                    weights.get(usize::from(trunk.0)).map(|weight| i64::from(*weight))
                }).into_iter().map(|trunk| trunk.0).collect();
                result.sort_unstable();
                prop_assert_eq!(result, (0..weights.len() as u16).collect::<Vec<_>>());
            }
        }
    }
}
