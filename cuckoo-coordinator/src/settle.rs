//! Settlement: what verified work earns is promised by a cumulative voucher, written down before anybody sees it.

use std::sync::Arc;

use cuckoo_core::{Error, ErrorKind, Receipt, Result, Signed, SignedVoucher, Task, Voucher};

use crate::coordinator::Inner;
use crate::store::{Payment, PaymentReply};

/// How often an account may change under our hands before we give up.
const MAX_CONFLICTS: u32 = 1_000;

/// Pays a receipt's miner the task's price, once for each lease; gives the voucher that covers it.
///
/// # Errors
/// `Unavailable` when the store cannot note it down.
pub(crate) async fn pay(
    inner: &Arc<Inner>,
    task: &Task,
    receipt: &Receipt,
) -> Result<SignedVoucher> {
    for _ in 0..MAX_CONFLICTS {
        let account = inner.durably(|| inner.store.account(receipt.miner)).await?;
        let cumulative = account
            .value
            .cumulative()
            .checked_add(task.price)
            .ok_or_else(|| Error::internal("a miner's pay exceeds what a voucher can hold"))?;
        let voucher = Voucher {
            coordinator: receipt.coordinator,
            miner: receipt.miner,
            cumulative,
        };
        let voucher = Signed::sign(voucher, &inner.operator, &inner.deployment);
        let payment = Payment {
            lease: receipt.lease,
            task: task.id,
            amount: task.price,
            voucher: voucher.clone(),
        };
        match inner
            .durably(|| inner.store.pay(payment.clone(), account.version))
            .await
        {
            Ok(PaymentReply::Paid) => {
                let (id, amount) = (task.id, task.price);
                inner.with(|market, now| market.paid(id, amount, voucher.clone(), now));
                return Ok(voucher);
            }
            Ok(PaymentReply::PaidBefore(payment)) => return Ok(payment.voucher),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::unavailable(
        "a miner's account changes all the time; trying later",
    ))
}
