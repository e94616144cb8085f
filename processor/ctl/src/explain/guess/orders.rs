//! Keys in every order, where the order is lost: what sorts keys leaves no trace of what they were.

use super::json::{Members, Node, Orders, as_known, plainly};

/// The most keys of an object that is tried in every order.
const KEYS: usize = 6;

/// The most orders of two objects that are tried together.
const BOTH: usize = 5_040;

/// The value with one object's keys in every order, the object itself or one of its members, then both,
/// compact and with blanks, until `each` has enough.
pub fn shuffled(node: &Node, orders: &Orders, each: &mut dyn FnMut(&str) -> bool) {
    let known = node.ordered(&|members| as_known(members, orders));
    for node in [node, &known] {
        let Node::Object(members) = node else { return };
        let places = std::iter::once(None).chain((0..members.len()).map(Some));
        for place in places {
            let object = place.map_or(node, |at| &members[at].1);
            let Node::Object(inside) = object else {
                continue;
            };
            let put = |inside: &[(String, Node)]| match place {
                None => Node::Object(inside.to_vec()),
                Some(at) => {
                    let mut members = members.clone();
                    members[at].1 = Node::Object(inside.to_vec());
                    Node::Object(members)
                }
            };
            let mut inside = inside.clone();
            let long = inside.len();
            let is_enough = (2..=KEYS).contains(&long)
                && permuted(&mut inside, long, &mut |inside| plainly(&put(inside), each));
            if is_enough {
                return;
            }
        }
        if twice(members, each) {
            return;
        }
    }
}

/// The keys of an object and of one of its members in every order at once, where these are few.
fn twice(members: &Members, each: &mut dyn FnMut(&str) -> bool) -> bool {
    (0..members.len()).any(|at| {
        let Node::Object(inside) = &members[at].1 else {
            return false;
        };
        let (mut inside, long) = (inside.clone(), inside.len());
        if orders_of(members.len()).saturating_mul(orders_of(long)) > BOTH {
            return false;
        }
        permuted(&mut inside, long, &mut |inside| {
            let mut members = members.clone();
            members[at].1 = Node::Object(inside.to_vec());
            let long = members.len();
            permuted(&mut members, long, &mut |members| {
                plainly(&Node::Object(members.to_vec()), each)
            })
        })
    })
}

/// How many orders so many keys have.
fn orders_of(keys: usize) -> usize {
    (1..=keys).fold(1, usize::saturating_mul)
}

/// Heap's way through all orders, until `each` has enough.
fn permuted<T>(items: &mut [T], long: usize, each: &mut dyn FnMut(&[T]) -> bool) -> bool {
    if long <= 1 {
        return each(items);
    }
    for at in 0..long {
        if permuted(items, long - 1, each) {
            return true;
        }
        items.swap(if long.is_multiple_of(2) { at } else { 0 }, long - 1);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_objects_are_tried_in_every_order() {
        let node = Node::read(r#"{"a":{"x":1,"y":2},"b":3}"#).expect("JSON");
        let mut all = Vec::new();
        shuffled(&node, &Orders::new(), &mut |text| {
            all.push(text.to_owned());
            false
        });
        for text in [
            r#"{"b":3,"a":{"y":2,"x":1}}"#,
            r#"{"a": {"y": 2, "x": 1}, "b": 3}"#,
        ] {
            assert!(all.iter().any(|one| one == text), "{text}: {all:?}");
        }
        assert_eq!(
            (orders_of(0), orders_of(4), orders_of(100)),
            (1, 24, usize::MAX)
        );
    }
}
