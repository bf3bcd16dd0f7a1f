//go:build tools

// Package tools names the programs that the tests build, so that go.sum covers them.
package tools

import _ "github.com/Shopify/toxiproxy/v2/cmd/server"
