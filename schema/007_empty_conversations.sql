-- SPDX-License-Identifier: Apache-2.0
-- Conversations that hold no message, by when their first turn is dead: workers remove those.

ALTER TABLE conversations
  ADD COLUMN empty_until DATETIME(3) AS (IF(message_count = 0, turn_until, NULL)) PERSISTENT,
  ADD KEY conversations_empty (empty_until);
