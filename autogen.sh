#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes ./configure from configure.ac. Run once after a clone.
cd "$(dirname "$0")" && exec autoreconf --force --install
