//! Name resolution that gives out only addresses a callback may reach.
//!
//! The connection is made to exactly the addresses returned here, so a name that changes its
//! address between a check and the call gains nothing.

use agent_domain::Cidr;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::guard::check_address;

/// Puts the guard behind another resolver.
#[derive(Debug)]
pub(crate) struct Guarded<R> {
    pub(crate) names: R,
    pub(crate) allow: Vec<Cidr>,
}

impl<R: Resolver> Resolver for Guarded<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        let mut permitted = self.empty();
        let mut refused = None;
        for address in &found {
            match check_address(address.ip(), &self.allow) {
                Ok(()) => permitted.push(*address),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if permitted.is_empty() => Err(Error::Other(Box::new(error))),
            _ => Ok(permitted),
        }
    }
}
