-- SPDX-License-Identifier: Apache-2.0
-- Conversations: what a token's owner and an AI App have said to each other.
-- Lock order: a conversation's row is locked alone, by nobody who holds another lock.

CREATE TABLE conversations (
  conversation_id UUID NOT NULL PRIMARY KEY,
  org_id          UUID NOT NULL,
  token_id        UUID NOT NULL,                       -- whose it is
  instance_id     UUID NOT NULL,
  message_count   INT UNSIGNED NOT NULL DEFAULT 0,
  turn_id         UUID NULL,                           -- the one turn under way, which adds two messages or none
  turn_until      DATETIME(3) NULL,                    -- past it that turn has died, and another may begin
  saved_turn_id   UUID NULL,                           -- the last that added its messages
  created_at      DATETIME(3) NOT NULL,
  updated_at      DATETIME(3) NOT NULL,
  KEY conversations_owner (org_id, token_id, conversation_id),
  KEY conversations_instance (instance_id),
  CONSTRAINT conversations_instance FOREIGN KEY (instance_id) REFERENCES orchestrator_instances (instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE conversation_messages (
  conversation_id UUID NOT NULL,
  n               INT UNSIGNED NOT NULL,               -- from 1, without a gap
  role            ENUM('user','assistant') NOT NULL,
  content         MEDIUMTEXT NOT NULL,
  tokens_in       BIGINT UNSIGNED NULL,                -- of the turn, with the assistant's message
  tokens_out      BIGINT UNSIGNED NULL,
  created_at      DATETIME(3) NOT NULL,
  PRIMARY KEY (conversation_id, n),
  CONSTRAINT conversation_messages_of FOREIGN KEY (conversation_id) REFERENCES conversations (conversation_id)
    ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
