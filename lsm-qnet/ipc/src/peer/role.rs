//! Client or server: what each side may say and hear.

use std::fmt;

use crate::{
    codec::{self, DecodeError},
    packet::{ToClient, ToServer},
};

/// What an end of a connection may say and hear. Implemented by [`ClientSide`] and [`ServerSide`] only.
pub trait Role: sealed::Sealed {
    /// Packets that this side sends.
    type Out<'a>: fmt::Debug;
    /// Packets that this side receives.
    type In<'a>: fmt::Debug;
    #[doc(hidden)]
    fn encode<'p>(packet: &'p Self::Out<'_>, head: &mut Vec<u8>) -> &'p [u8];
    #[doc(hidden)]
    fn decode(packet: &[u8]) -> Result<Self::In<'_>, DecodeError>;
    /// Whether so many bytes of lent data may belong to the packet.
    #[doc(hidden)]
    fn check_lent(packet: &Self::In<'_>, lent: usize) -> Result<(), DecodeError>;
    /// Whether this side makes the ring.
    #[doc(hidden)]
    const OFFERS: bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ClientSide {}
    impl Sealed for super::ServerSide {}
}

/// The role of the one who connects, sends messages and gets replies.
#[derive(Debug)]
pub struct ClientSide;

/// The role of the one who owns the channel.
#[derive(Debug)]
pub struct ServerSide;

impl Role for ClientSide {
    type Out<'a> = ToServer<'a>;
    type In<'a> = ToClient<'a>;
    fn encode<'p>(packet: &'p ToServer<'_>, head: &mut Vec<u8>) -> &'p [u8] {
        codec::encode_to_server(packet, head)
    }
    fn decode(packet: &[u8]) -> Result<ToClient<'_>, DecodeError> {
        codec::decode_to_client(packet)
    }
    fn check_lent(packet: &ToClient<'_>, lent: usize) -> Result<(), DecodeError> {
        codec::check_lent_to_client(packet, lent)
    }
    const OFFERS: bool = true;
}

impl Role for ServerSide {
    type Out<'a> = ToClient<'a>;
    type In<'a> = ToServer<'a>;
    fn encode<'p>(packet: &'p ToClient<'_>, head: &mut Vec<u8>) -> &'p [u8] {
        codec::encode_to_client(packet, head)
    }
    fn decode(packet: &[u8]) -> Result<ToServer<'_>, DecodeError> {
        codec::decode_to_server(packet)
    }
    fn check_lent(packet: &ToServer<'_>, lent: usize) -> Result<(), DecodeError> {
        codec::check_lent_to_server(packet, lent)
    }
    const OFFERS: bool = false;
}
