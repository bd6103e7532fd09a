package gateway_test

import (
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

const scripts = "../../testkit/wiretest/testdata"

// TestWireScripts: the service path answers every script as PostgreSQL itself does.
func TestWireScripts(t *testing.T) {
	f := start(t, nil)
	if *update {
		wiretest.Update(t, scripts, wiretest.Dial(f.direct()))
	}
	wiretest.Compare(t, scripts, wiretest.Dial(f.direct()), wiretest.Dial(f.through("app")))
}

// TestWireScriptsTLS: the same with TLS to the client.
func TestWireScriptsTLS(t *testing.T) {
	server, client := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.TLS, c.RequireTLS = server, true })
	over := f.through("app")
	over.TLS = client
	wiretest.Compare(t, scripts, wiretest.Dial(f.direct()), wiretest.Dial(over))
}
