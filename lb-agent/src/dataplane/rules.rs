//! Our iptables rules, in whichever of its two flavours holds them.

use tracing::{debug, info, warn};

use super::Error;
use crate::iptables::command::{self, Flavour};
use crate::iptables::{self, Printed};
use crate::table::{Family, Rules};

/// Our rules of one family, as the kernel has them.
#[derive(Debug, Default)]
pub(super) struct Held {
    flavour: Option<Flavour>,
    /// What was read last.
    pub(super) printed: Printed,
    /// What was printed after our own last change, and what that was. It spares us from taking another version's way
    /// to print for a change of the rules.
    ours: Option<(Printed, Rules)>,
}

impl Held {
    /// The rules, if they are just what we left, or just what is wanted.
    pub(super) fn rules(&self, family: Family, wanted: Option<&Rules>) -> Option<Rules> {
        match &self.ours {
            Some((printed, rules)) if *printed == self.printed => Some(rules.clone()),
            _ => wanted.filter(|rules| self.printed.is(family, rules)).cloned(),
        }
    }
}

/// Reads our rules, from the flavour that holds them. None does: the flavour is chosen with the first change.
pub(super) fn read(family: Family, rules: &mut Held) -> Result<(), Error> {
    if let Some(flavour) = rules.flavour {
        let saved = command::save(flavour, family).map_err(|source| Error::Rules { family, source })?;
        rules.printed = Printed::parse(&saved);
        return Ok(());
    }
    for flavour in Flavour::ALL {
        let printed = command::save(flavour, family)
            .map(|saved| Printed::parse(&saved))
            .unwrap_or_default();
        if !printed.is_empty() {
            info!(%family, %flavour, "rules adopted");
            rules.flavour = Some(flavour);
            rules.printed = printed;
            break;
        }
    }
    Ok(())
}

/// Makes our rules of a family these.
pub(super) fn set(family: Family, held: &mut Held, rules: &Rules) -> Result<(), Error> {
    match held.flavour {
        Some(flavour) => {
            set_rules(family, held, flavour, rules).map_err(|source| Error::Rules { family, source })
        }
        None => choose_flavour(family, held, rules),
    }
}

/// Takes the first flavour that accepts our rules; whatever else would be asked first could be answered wrong.
fn choose_flavour(family: Family, held: &mut Held, rules: &Rules) -> Result<(), Error> {
    let mut said = Vec::new();
    for flavour in Flavour::ALL {
        match set_rules(family, held, flavour, rules) {
            Ok(()) => {
                info!(%family, %flavour, "iptables chosen");
                held.flavour = Some(flavour);
                return Ok(());
            }
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, %family, %flavour, "iptables refused");
                said.push(error.to_string());
                remove_flavour(family, flavour);
            }
        }
    }
    held.printed = Printed::default();
    let mut said = said.into_iter();
    Err(Error::NoIptables {
        family,
        nft: said.next().unwrap_or_default(),
        legacy: said.next().unwrap_or_default(),
    })
}

fn set_rules(family: Family, held: &mut Held, flavour: Flavour, rules: &Rules) -> Result<(), command::Error> {
    held.printed = put(family, flavour, rules)?;
    // Other rules are printed, if this is a version of iptables that prints them in its own way, or if somebody changed
    // them just now. Only of the former the same is printed once more.
    let is_ours = held.printed.is(family, rules) || {
        let again = put(family, flavour, rules)?;
        std::mem::replace(&mut held.printed, again) == held.printed
    };
    held.ours = is_ours.then(|| (held.printed.clone(), rules.clone()));
    Ok(())
}

/// Puts our rules in, and reads how they are printed.
fn put(family: Family, flavour: Flavour, rules: &Rules) -> Result<Printed, command::Error> {
    // Read right before, since what is doubled must be removed as it is.
    let before = Printed::parse(&command::save(flavour, family)?);
    command::restore(flavour, family, &iptables::render(family, rules, &before))?;
    Ok(Printed::parse(&command::save(flavour, family)?))
}

/// Removes our rules of a family, from both flavours.
pub fn remove_rules(family: Family) -> Result<(), Error> {
    for flavour in Flavour::ALL {
        remove_flavour(family, flavour);
    }
    Ok(())
}

/// A flavour that can't be read has no rules of ours.
fn remove_flavour(family: Family, flavour: Flavour) {
    let Ok(saved) = command::save(flavour, family) else {
        return;
    };
    let text = iptables::render_removal(&Printed::parse(&saved));
    if text.is_empty() {
        return;
    }
    if let Err(error) = command::restore(flavour, family, &text) {
        warn!(error = &error as &dyn std::error::Error, %family, %flavour, "rules not removed");
    }
}
