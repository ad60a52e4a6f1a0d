#pragma once

#include "parallel/communicator.h"
#include "runtime/autograd/tape.h"

namespace cairn {

// Collectives in the forward pass, each with its conjugate in the backward pass, on the compute
// stream. "Rows" are the entries of the outermost dimension, cut into equal parts by rank. In a
// group of one the value comes back unchanged and the tape stays as it is.

/// Enters a tensor-parallel region with the same x on every rank: forward x; backward sums the
/// ranks' gradients (f of Megatron-LM, Shoeybi et al. 2019).
Value CopyToTensorParallel(Tape& tape, const Value& x, Communicator& tp);

/// Leaves the region: forward sums the ranks' partial x; backward passes the gradient on (g of
/// Megatron-LM).
Value ReduceFromTensorParallel(Tape& tape, const Value& x, Communicator& tp);

/// Enters a region with the rows cut (sequence parallelism, Korthikanti et al. 2022): x [rows, ...]
/// to [rows * size, ...], all ranks' rows; backward sums the ranks' gradients and keeps one's own
/// rows.
Value GatherFromSequenceParallel(Tape& tape, const Value& x, Communicator& tp);

/// Leaves that region: partial x [rows * size, ...] to this rank's [rows, ...] of the sum; backward
/// gathers all rows.
Value ReduceScatterToSequenceParallel(Tape& tape, const Value& x, Communicator& tp);

/// From the same x [rows * size, ...] on every rank to this rank's [rows, ...]; backward gathers
/// all rows.
Value ScatterToSequenceParallel(Tape& tape, const Value& x, Communicator& tp);

/// Part i of x's rows goes to rank i, part j of the result came from rank j (tokens to experts and
/// back); backward sends the gradients the way they came.
Value ExchangeRows(Tape& tape, const Value& x, Communicator& group);

}  // namespace cairn
