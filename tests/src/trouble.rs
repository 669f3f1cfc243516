//! Trouble on the wire of a node.

use anyhow::Result;
use qnet_lab::Node;

/// From now on so many of a hundred Qnet frames that the node sends are lost, by nftables.
///
/// # Errors
/// There is no nftables, or it refuses.
pub fn lose(node: &Node, percent: u32) -> Result<()> {
    node.shell(&format!(
        "nft 'add table netdev loss; add chain netdev loss out {{ type filter hook egress device eth0 priority 0; }}; \
         add rule netdev loss out ether type 0x8204 numgen random mod 100 < {percent} counter drop'"
    ))?;
    Ok(())
}

/// Has anything been lost since [`lose`]?
///
/// # Errors
/// Nothing was to be lost.
pub fn has_lost(node: &Node) -> Result<bool> {
    Ok(!node.shell("nft list table netdev loss")?.contains("packets 0 "))
}
