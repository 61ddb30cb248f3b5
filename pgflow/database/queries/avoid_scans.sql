-- For the rest of the transaction: statistics from a moment at which most tasks were started would have the whole table read.
SELECT set_config('enable_seqscan', 'off', true)
