//! The rules, to the kernel and back: one transaction writes our tables, a dump reads them and compares.

use nlink::netlink::addr::Ipv6Address;
use nlink::netlink::nftables::{
    BaseChain, Chain, ChainName, CmpOp, Expr, Family as NftFamily, Field, FilterHook, Match as NftMatch, MetaKey,
    NFT_MSG_NEWTABLE, NFTA_TABLE_NAME, NatHook, Policy, Priority, RawMessage, Register, Rule as NftRule, Stmt,
    Transaction, Value, Verdict,
};
use nlink::netlink::{Connection, Nftables, Route};

use super::error::{Error, Stage};
use super::flags::Interface;
use super::plan::INBOUND_SOURCE_V6;
use super::rules::{Action, Family, Hook, Match, Rule, TABLE, Table};

/// `NLM_F_CREATE` of linux/netlink.h.
const NLM_F_CREATE: u16 = 0x400;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// The kernel's nf_tables, in the network namespace of the process.
pub(super) struct Kernel {
    connection: Connection<Nftables>,
}

impl Kernel {
    /// Opens the socket and asks for the generation of the rule set, which needs nothing but nf_tables itself.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or refuses this process.
    pub(super) async fn open() -> Result<Self, Error> {
        let connection = Connection::<Nftables>::new().map_err(|e| Error::of_netlink(Stage::Open, &e))?;
        connection
            .generation()
            .await
            .map_err(|e| Error::of_netlink(Stage::Open, &e))?;
        Ok(Self { connection })
    }

    /// Puts the tables in force, in one transaction: whatever tables of our name there were are gone, and no packet
    /// sees anything in between. A family that is not given loses its table.
    ///
    /// # Errors
    /// The kernel refuses; then everything is as it was.
    pub(super) async fn apply(&self, tables: &[Table]) -> Result<(), Error> {
        let mut transaction = self.connection.transaction();
        let existing = self
            .connection
            .list_tables()
            .await
            .map_err(|e| Error::of_netlink(Stage::Read, &e))?;
        for family in [Family::V4, Family::V6] {
            let wanted = tables.iter().find(|t| t.family == family);
            let nft = nft_family(family);
            if wanted.is_some() {
                // "Create if missing, then delete" never fails, whoever wrote a table in the meantime.
                transaction = transaction.raw(create_table(nft)).del_table(TABLE, nft);
            } else if existing.iter().any(|t| t.name == TABLE && t.family == nft) {
                transaction = transaction.del_table(TABLE, nft);
            }
            if let Some(table) = wanted {
                transaction = add(transaction, table)?;
            }
        }
        transaction
            .commit(&self.connection)
            .await
            .map_err(|e| Error::of_netlink(Stage::Write, &e))
    }

    /// Reads our tables back and compares them with what was asked for, rule by rule.
    ///
    /// # Errors
    /// The kernel refuses to answer, or holds other rules: both are shown.
    pub(super) async fn verify(&self, tables: &[Table]) -> Result<(), Error> {
        for table in tables {
            let family = nft_family(table.family);
            let read = |e| Error::of_netlink(Stage::Read, &e);
            let chains = self.connection.list_chains_in(TABLE, family).await.map_err(read)?;
            let rules = self.connection.list_rules(TABLE, family).await.map_err(read)?;
            for chain in &table.chains {
                let Some(found) = chains.iter().find(|c| c.name == chain.name) else {
                    return Err(differs(table, chain.name, "the chain".to_owned(), "nothing".to_owned()));
                };
                let hook = chain.hook.map(|hook| {
                    let base = base_chain(hook);
                    (hook_number(hook), base.priority().to_i32())
                });
                let found_hook = found.hook.zip(found.priority);
                if hook != found_hook {
                    return Err(differs(
                        table,
                        chain.name,
                        format!("hook {hook:?}"),
                        format!("hook {found_hook:?}"),
                    ));
                }
                let wanted: Vec<_> = chain.rules.iter().map(Rule::to_string).collect();
                let found: Vec<_> = rules
                    .iter()
                    .filter(|r| r.chain == chain.name)
                    .map(|r| {
                        r.nft_syntax_stateless()
                            .unwrap_or_else(|| "a rule that is not ours".to_owned())
                    })
                    .collect();
                if wanted != found {
                    return Err(differs(table, chain.name, wanted.join("; "), found.join("; ")));
                }
            }
        }
        Ok(())
    }
}

/// Gives `lo` the address that the sidecar calls its own application from over IPv6. Says whether it is there now;
/// it is not where IPv6 is switched off by sysctl for `lo`.
///
/// # Errors
/// The kernel refuses for another reason.
pub(super) async fn add_inbound_source_v6() -> Result<bool, Error> {
    if has_address(INBOUND_SOURCE_V6) {
        return Ok(true);
    }
    let connection = Connection::<Route>::new().map_err(|e| Error::of_netlink(Stage::Address, &e))?;
    match connection
        .add_address(Ipv6Address::new("lo", INBOUND_SOURCE_V6, 128))
        .await
    {
        Ok(()) => Ok(true),
        Err(e) if e.is_already_exists() => Ok(true),
        // inet6_addr_add answers EACCES where disable_ipv6 is set, EOPNOTSUPP where the module is switched off.
        Err(e) if matches!(e.errno(), Some(libc::EACCES | libc::EOPNOTSUPP)) => Ok(false),
        Err(e) => Err(Error::of_netlink(Stage::Address, &e)),
    }
}

/// `/proc/net/if_inet6` starts each line with an address of this namespace in 32 hex digits.
fn has_address(address: std::net::Ipv6Addr) -> bool {
    let wanted = format!("{:032x} ", address.to_bits());
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|list| list.lines().any(|line| line.starts_with(&wanted)))
}

fn differs(table: &Table, chain: &str, wanted: String, found: String) -> Error {
    Error::Differs {
        family: table.family.name(),
        chain: chain.to_owned(),
        wanted,
        found,
    }
}

fn nft_family(family: Family) -> NftFamily {
    match family {
        Family::V4 => NftFamily::Ip,
        Family::V6 => NftFamily::Ip6,
    }
}

/// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT` of linux/netfilter.h.
fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting | Hook::RawPrerouting => 0,
        Hook::Output | Hook::RawOutput => 3,
    }
}

fn base_chain(hook: Hook) -> BaseChain {
    let base = match hook {
        Hook::Prerouting => BaseChain::nat(NatHook::Prerouting, Priority::DstNat),
        Hook::Output => BaseChain::nat(NatHook::Output, Priority::DstNat),
        Hook::RawPrerouting => BaseChain::filter(FilterHook::Prerouting, Priority::Raw),
        Hook::RawOutput => BaseChain::filter(FilterHook::Output, Priority::Raw),
    };
    base.policy(Policy::Accept)
}

/// `NFT_MSG_NEWTABLE` with `NLM_F_CREATE` alone: makes the table if it is missing, as `nft add table` does.
fn create_table(family: NftFamily) -> RawMessage {
    // One netlink attribute: length (of header and text), type, the name with its NUL, padded to 4 bytes.
    let mut name = TABLE.as_bytes().to_vec();
    name.push(0);
    let mut attribute = Vec::with_capacity(4 + name.len() + 3);
    attribute.extend_from_slice(&u16::try_from(4 + name.len()).unwrap_or(u16::MAX).to_ne_bytes());
    attribute.extend_from_slice(&NFTA_TABLE_NAME.to_ne_bytes());
    attribute.extend_from_slice(&name);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    RawMessage::new(NFT_MSG_NEWTABLE, family)
        .flags(NLM_F_CREATE)
        .attrs(attribute)
}

/// The table, its chains, then their rules: a jump needs the chain that it names.
fn add(mut transaction: Transaction, table: &Table) -> Result<Transaction, Error> {
    let family = nft_family(table.family);
    let built = |e| Error::of_netlink(Stage::Write, &e);
    transaction = transaction.add_table(TABLE, family);
    for chain in &table.chains {
        let mut made = Chain::new(TABLE, chain.name).map_err(built)?.family(family);
        if let Some(hook) = chain.hook {
            made = made.base(base_chain(hook));
        }
        transaction = transaction.add_chain(made);
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            let mut made = NftRule::new(TABLE, chain.name).family(family);
            for m in &rule.matches {
                made = add_match(made, m);
            }
            made = match rule.action {
                Action::Return => made.then(Verdict::Return),
                Action::Jump(chain) => made.then(Verdict::JumpTo(ChainName::new(chain).map_err(built)?)),
                Action::Redirect(port) => made.then(Stmt::Redirect(Some(port))),
                Action::Notrack => made.then(Stmt::Notrack),
            };
            transaction = transaction.add_rule(made);
        }
    }
    Ok(transaction)
}

fn add_match(rule: NftRule, m: &Match) -> NftRule {
    let prefix = |net: &ipnet::IpNet| Value::Prefix(net.addr(), net.prefix_len());
    match m {
        Match::Tcp => rule.then(NftMatch::eq(Field::L4Proto, TCP)),
        Match::InInterface(name) => rule.then(NftMatch::eq(Field::Iifname, interface(name))),
        Match::OutInterface(name) => rule.then(NftMatch::eq(Field::Oifname, interface(name))),
        Match::Source(net) => {
            let field = if net.addr().is_ipv4() {
                Field::Ip4Saddr
            } else {
                Field::Ip6Saddr
            };
            rule.then(NftMatch::eq(field, prefix(net)))
        }
        Match::Destination(net) => rule.then(NftMatch::eq(destination(net), prefix(net))),
        Match::DestinationNot(net) => rule.then(NftMatch::ne(destination(net), prefix(net))),
        Match::Port(port) => rule.then(NftMatch::eq(Field::TcpDport, *port)),
        Match::PortNot(port) => rule.then(NftMatch::ne(Field::TcpDport, *port)),
        Match::UdpPort(port) => rule.then(NftMatch::eq(Field::UdpDport, *port)),
        Match::UdpSourcePort(port) => rule.then(NftMatch::eq(Field::UdpSport, *port)),
        Match::Uid(uid) => add_owner(rule, MetaKey::SkUid, CmpOp::Eq, *uid),
        Match::UidNot(uid) => add_owner(rule, MetaKey::SkUid, CmpOp::Neq, *uid),
        Match::Gid(gid) => add_owner(rule, MetaKey::SkGid, CmpOp::Eq, *gid),
        Match::GidNot(gid) => add_owner(rule, MetaKey::SkGid, CmpOp::Neq, *gid),
    }
}

fn interface(interface: &Interface) -> Value {
    match interface {
        Interface::Name(name) => Value::Name(name.clone()),
        Interface::Prefix(prefix) => Value::NamePrefix(prefix.clone()),
    }
}

fn destination(net: &ipnet::IpNet) -> Field {
    if net.addr().is_ipv4() {
        Field::Ip4Daddr
    } else {
        Field::Ip6Daddr
    }
}

/// nlink has no field for the sending process, so its expressions are given as they are.
fn add_owner(rule: NftRule, key: MetaKey, op: CmpOp, id: u32) -> NftRule {
    rule.then(Expr::Meta {
        dreg: Register::R0,
        key,
    })
    .then(Expr::Cmp {
        sreg: Register::R0,
        op,
        data: id.to_ne_bytes().to_vec(),
    })
}
