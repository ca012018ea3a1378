//! The ways in that policy names, and how far along them a login is. What passes a method is told
//! elsewhere.

use gateway_wire::monitor::Method;
use gateway_wire::policy::Way;

/// What is left of each way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways(Vec<Vec<Method>>);

impl Ways {
    /// All of them, from their start.
    pub fn new(ways: &[Way]) -> Self {
        Self(ways.iter().map(|way| way.0.clone()).collect())
    }

    /// Whether this method is next on some way.
    pub fn offer(&self, method: Method) -> bool {
        self.0.iter().any(|way| way.first() == Some(&method))
    }

    /// The methods that are next, each once, in the order of the ways.
    pub fn offered(&self) -> Vec<Method> {
        let mut methods = Vec::new();
        for next in self.0.iter().filter_map(|way| way.first()) {
            if !methods.contains(next) {
                methods.push(*next);
            }
        }
        methods
    }

    /// This method was passed. True if a way is at its end. Ways that want another method first
    /// stay where they are: an order is an order.
    pub fn pass(&mut self, method: Method) -> bool {
        for way in &mut self.0 {
            if way.first() == Some(&method) {
                way.remove(0);
            }
        }
        self.0.iter().any(Vec::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(texts: &[&str]) -> Ways {
        let parsed: Vec<Way> = texts
            .iter()
            .map(|text| Way::try_from((*text).to_owned()).unwrap())
            .collect();
        Ways::new(&parsed)
    }

    #[test]
    fn a_way_is_gone_in_its_order() {
        use Method::{KeyboardInteractive as Dialogue, Password, PublicKey};
        let mut ways = ways(&[
            "publickey,keyboard-interactive",
            "publickey,password,publickey",
        ]);
        assert_eq!(ways.offered(), [PublicKey]);
        assert!(!ways.offer(Password));
        assert!(!ways.pass(PublicKey));
        assert_eq!(ways.offered(), [Dialogue, Password]);
        assert!(!ways.pass(Password));
        assert_eq!(ways.offered(), [Dialogue, PublicKey]);
        assert!(ways.pass(PublicKey));
    }

    #[test]
    fn one_factor_is_one_step() {
        let mut ways = ways(&["publickey,publickey"]);
        assert!(!ways.pass(Method::PublicKey));
        assert!(ways.pass(Method::PublicKey));
        assert_eq!(Ways::new(&[]).offered(), []);
        assert!(!Ways::new(&[]).pass(Method::Password));
    }
}
