//! Verification: does a receipt hold for the lease, the signer and the bytes that came with it?

use cuckoo_core::{
    Address, B256, Completion, Deployment, Error, LeaseId, NodeId, Output, Result, TaskId,
    payload_hash,
};

use crate::preview::Streamed;

/// What a receipt must say.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) deployment: Deployment,
    pub(crate) coordinator: NodeId,
    pub(crate) miner: NodeId,
    /// Who must have signed: the operator of the miner's session.
    pub(crate) operator: Address,
    pub(crate) lease: LeaseId,
    pub(crate) task: TaskId,
    pub(crate) model_hash: B256,
    pub(crate) input_hash: B256,
    /// What the output must begin with.
    pub(crate) streamed: Streamed,
    pub(crate) max_output_bytes: usize,
}

impl Expected {
    /// The longest media type, in bytes.
    const MAX_MEDIA_TYPE: usize = 127;

    /// Checks bounds, then every field, then the signature, then the output's hash: cheap things first.
    ///
    /// # Errors
    /// `Invalid` for an output out of bounds, `Unverified` for everything that does not hold.
    pub(crate) fn check(&self, completion: &Completion) -> Result<()> {
        self.check_bounds(&completion.output)?;
        let receipt = &completion.receipt.value;
        let fields = [
            ("coordinator", receipt.coordinator == self.coordinator),
            ("miner", receipt.miner == self.miner),
            ("lease", receipt.lease == self.lease),
            ("task", receipt.task == self.task),
            ("model_hash", receipt.model_hash == self.model_hash),
            ("input_hash", receipt.input_hash == self.input_hash),
        ];
        if let Some((field, _)) = fields.iter().find(|(_, holds)| !holds) {
            return Err(Error::unverified(format!(
                "the receipt's {field} is not the assignment's; sign what the assignment says"
            )));
        }
        completion
            .receipt
            .verify(self.operator, &self.deployment)
            .map_err(|error| {
                Error::unverified(
                    "the receipt must be signed by the operator that opened the session",
                )
                .with_source(error)
            })?;
        if payload_hash(&completion.output.bytes) != receipt.output_hash {
            return Err(Error::unverified(
                "the output does not match the receipt's output_hash; hash the exact bytes that are sent",
            ));
        }
        self.check_beginning(&completion.output, receipt.output_hash)
    }

    fn check_beginning(&self, output: &Output, output_hash: B256) -> Result<()> {
        let Some(streamed) = &self.streamed else {
            return Ok(());
        };
        let bytes = &output.bytes;
        let beginning = usize::try_from(streamed.length())
            .ok()
            .and_then(|length| bytes.get(..length));
        let hash = match beginning {
            Some(beginning) if beginning.len() == bytes.len() => Some(output_hash),
            beginning => beginning.map(payload_hash),
        };
        if hash == Some(streamed.hash()) {
            return Ok(());
        }
        Err(Error::unverified(
            "the output does not begin with what was streamed for it; stream nothing but the output's own bytes",
        ))
    }

    fn check_bounds(&self, output: &Output) -> Result<()> {
        let size = output.bytes.len();
        if size > self.max_output_bytes {
            return Err(Error::invalid(format!(
                "the output is {size} bytes; at most {} are taken",
                self.max_output_bytes
            )));
        }
        let media_type = &output.media_type;
        let plain = media_type
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if media_type.len() > Self::MAX_MEDIA_TYPE || !plain || !media_type.contains('/') {
            return Err(Error::invalid(
                "the output needs a media type such as image/png",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{ErrorKind, Key, PayloadHasher, Receipt, SeededEntropy, Signed, Usage};

    use super::*;

    fn deployment(chain_id: u64) -> Deployment {
        Deployment {
            chain_id,
            staking: Address::repeat_byte(1),
            payments: Address::repeat_byte(2),
        }
    }

    fn honest() -> (Expected, Key, Receipt, Output) {
        let key = Key::random(&SeededEntropy::from_number(5));
        let output = Output {
            media_type: "image/png".into(),
            bytes: vec![1, 2, 3].into(),
        };
        let expected = Expected {
            deployment: deployment(1),
            coordinator: NodeId(1),
            miner: NodeId(2),
            operator: key.address(),
            lease: LeaseId::from(B256::repeat_byte(3)),
            task: TaskId::from(B256::repeat_byte(4)),
            model_hash: B256::repeat_byte(5),
            input_hash: B256::repeat_byte(6),
            streamed: None,
            max_output_bytes: 3,
        };
        let receipt = Receipt {
            coordinator: expected.coordinator,
            miner: expected.miner,
            lease: expected.lease,
            task: expected.task,
            model_hash: expected.model_hash,
            input_hash: expected.input_hash,
            output_hash: payload_hash(&output.bytes),
            states_root: B256::ZERO,
            usage: Usage::default(),
        };
        (expected, key, receipt, output)
    }

    fn check(
        expected: &Expected,
        key: &Key,
        receipt: Receipt,
        output: Output,
    ) -> Option<ErrorKind> {
        let receipt = Signed::sign(receipt, key, &deployment(1));
        expected
            .check(&Completion { receipt, output })
            .err()
            .map(|error| error.kind())
    }

    #[test]
    fn an_honest_completion_holds() {
        let (expected, key, receipt, output) = honest();
        assert_eq!(check(&expected, &key, receipt, output), None);
    }

    #[test]
    fn every_single_lie_is_found() {
        let (expected, key, receipt, output) = honest();
        let lies: [fn(&mut Receipt); 7] = [
            |receipt| receipt.coordinator = NodeId(9),
            |receipt| receipt.miner = NodeId(9),
            |receipt| receipt.lease = LeaseId::from(B256::ZERO),
            |receipt| receipt.task = TaskId::from(B256::ZERO),
            |receipt| receipt.model_hash = B256::ZERO,
            |receipt| receipt.input_hash = B256::ZERO,
            |receipt| receipt.output_hash = B256::ZERO,
        ];
        for (index, lie) in lies.into_iter().enumerate() {
            let mut receipt = receipt.clone();
            lie(&mut receipt);
            let found = check(&expected, &key, receipt, output.clone());
            assert_eq!(found, Some(ErrorKind::Unverified), "lie {index}");
        }
    }

    #[test]
    fn another_key_or_chain_is_found() {
        let (mut expected, key, receipt, output) = honest();
        let other = Key::random(&SeededEntropy::from_number(6));
        assert_eq!(
            check(&expected, &other, receipt.clone(), output.clone()),
            Some(ErrorKind::Unverified)
        );
        expected.deployment = deployment(2);
        assert_eq!(
            check(&expected, &key, receipt, output),
            Some(ErrorKind::Unverified)
        );
    }

    #[test]
    fn an_output_begins_with_what_was_streamed() {
        let (mut expected, key, receipt, output) = honest();
        for (streamed, found) in [
            (&[1][..], None),
            (&[1, 2, 3], None),
            (&[2], Some(ErrorKind::Unverified)),
            (&[1, 2, 4], Some(ErrorKind::Unverified)),
            (&[1, 2, 3, 4], Some(ErrorKind::Unverified)),
        ] {
            let mut hasher = PayloadHasher::default();
            hasher.update(streamed);
            expected.streamed = Some(Box::new(hasher));
            assert_eq!(
                check(&expected, &key, receipt.clone(), output.clone()),
                found,
                "{streamed:?}"
            );
        }
    }

    #[test]
    fn outputs_are_bounded() {
        let (expected, key, receipt, output) = honest();
        let large = Output {
            bytes: vec![0; 4].into(),
            ..output.clone()
        };
        assert_eq!(
            check(&expected, &key, receipt.clone(), large),
            Some(ErrorKind::Invalid)
        );
        for media_type in ["", "png", "image/\npng", &"x/".repeat(64)] {
            let odd = Output {
                media_type: media_type.into(),
                ..output.clone()
            };
            assert_eq!(
                check(&expected, &key, receipt.clone(), odd),
                Some(ErrorKind::Invalid)
            );
        }
    }
}
