package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// Names in the demonstration's keys.
const (
	origin      = "log.clover.example/dublin-1"
	monitorName = "monitor.sentinel.example"
	officerOne  = "ada.sentinel.example"
	officerTwo  = "ben.sentinel.example"
	approver    = "approver.clover.example"
)

// principals log in through the gateway.
var principals = [...]string{"app", "agent", "analyst-ie", "analyst-jp", "analyst-cn"}

// iterations of the demonstration's SCRAM verifiers: its passwords are 128 random bits.
const iterations = identity.MinIterations

// makeSecrets makes every key, certificate and password. What two parties share is written
// to both; what only one has is in its directory alone.
func (w *World) makeSecrets(context.Context) error {
	for _, name := range append([]string{readerRole, controlRole, "steward-inside", "steward-outside"}, principals[:]...) {
		p, err := secret(16)
		if err != nil {
			return err
		}
		w.passwords[name] = p
	}
	key := func(who, name string) string { return w.path(who, "keys", name) }
	for _, paths := range [][]string{
		{key("enclave", "statements")}, // the keys of pseudonyms and digests are made by the first build
		{key("enclave", "staff"), key("monitor", "staff")},
		{key("enclave", "monitor.token"), key("monitor", "monitor.token")},
		{key("monitor", "bodies.token")},
		{key("enclave", "valve"), key("monitor", "valve")},
		{key("enclave", "sessions")}, {key("monitor", "valve.token")},
	} {
		if err := writeSecrets(paths...); err != nil {
			return err
		}
	}
	for _, k := range []struct {
		use, name, path string
		vkey            *string
	}{
		{monitor.UseLog, origin, key("enclave", "log"), &w.logKey},
		{monitor.UseApprover, approver, key("enclave", "approver"), &w.approveKey},
		{monitor.UseWitness, monitorName, key("monitor", "witness"), &w.witnessKey},
		{monitor.UsePermit, monitorName, key("monitor", "permit"), &w.permitKey},
		{monitor.UseLog, monitorName + "/log", key("monitor", "log"), new(string)},
		{monitor.UseStop, monitorName + "/stop", key("monitor", "stop"), &w.stopKey},
		{monitor.UseOfficer, officerOne, key("officers", "ada"), &w.officerKeys[0]},
		{monitor.UseOfficer, officerTwo, key("officers", "ben"), &w.officerKeys[1]},
	} {
		vkey, err := monitor.NewKey(k.use, k.name, k.path)
		if err != nil {
			return err
		}
		*k.vkey = vkey
	}
	ports, err := w.keepPorts(5)
	if err != nil {
		return err
	}
	w.gatewayAddr, w.logAddr, w.monitorAddr, w.valveAddr, w.doorAddr = ports[0], ports[1], ports[2], ports[3], ports[4]
	return w.makeCertificates()
}

// makeCertificates makes two authorities: one between gateway and databases, one for what
// the gateway shows to clients.
func (w *World) makeCertificates() (err error) {
	dir := w.path("enclave", "tls")
	if w.authority, err = postgres.NewAuthority(dir, "databases-ca", nil); err != nil {
		return err
	}
	if w.client, err = w.authority.Client(dir, "gateway"); err != nil {
		return err
	}
	public, err := postgres.NewAuthority(dir, "public-ca", nil)
	if err != nil {
		return err
	}
	w.public = public.File
	_, err = public.Server(dir, "gateway-server", "127.0.0.1", "localhost")
	return err
}

// configure writes the operator's files and the monitor's rules.
func (w *World) configure(context.Context) error {
	verifiers := map[string]string{}
	for _, id := range principals {
		v, err := identity.NewVerifier(w.passwords[id], iterations)
		if err != nil {
			return fmt.Errorf("make verifier: %w", err)
		}
		verifiers[id] = v
	}
	refusals := "8760h"
	if !w.o.Detach {
		refusals = "10s" // so that the story can show the end of a retention
	}
	values := map[string]any{
		"Refusals":       refusals,
		"SourceDSN":      w.primary.TLSDSN(serviceRole, "platform", w.authority.File, w.client),
		"ReaderDSN":      w.primary.SocketDSN(readerRole, w.passwords[readerRole], "platform"),
		"ControlDSN":     w.primary.SocketDSN(controlRole, w.passwords[controlRole], "trefoil"),
		"InsideDSN":      w.inside.TLSDSN("gateway", "postgres", w.authority.File, w.client),
		"OutsideDSN":     w.outside.TLSDSN("gateway", "postgres", w.authority.File, w.client),
		"InsideSteward":  w.inside.SocketDSN(postgres.StewardRole, w.passwords["steward-inside"], "postgres"),
		"OutsideSteward": w.outside.SocketDSN(postgres.StewardRole, w.passwords["steward-outside"], "postgres"),
		"GatewayAddr":    w.gatewayAddr, "LogAddr": w.logAddr, "LogURL": "http://" + w.logAddr,
		"MonitorAddr": w.monitorAddr, "MonitorURL": "http://" + w.monitorAddr,
		"Origin": origin, "MonitorName": monitorName, "Approver": approver,
		"LogKey": w.logKey, "WitnessKey": w.witnessKey, "PermitKey": w.permitKey, "ApproverKey": w.approveKey,
		"StopKey": w.stopKey, "OfficerOne": officerOne, "OfficerTwo": officerTwo, "OfficerKeys": w.officerKeys,
		"Verifiers": verifiers,
		"Valve":     w.o.Valve, "ValveAddr": w.valveAddr, "DoorAddr": w.doorAddr, "HandshakeBytes": handshakeBytes,
	}
	for _, name := range []string{"enclave.yaml", "catalog.yaml", "datasets.yaml", "purposes.yaml", "people.yaml"} {
		if err := w.render(name, w.path("enclave", name), values); err != nil {
			return err
		}
	}
	if err := w.writePolicy(); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	if err := w.render("valve.yaml", w.path("monitor", "valve.yaml"), values); err != nil {
		return err
	}
	return w.render("rules.yaml", filepath.Join(w.path("monitor"), monitor.RulesFile), values)
}

// remove deletes the demonstration's files. Only a directory that it made itself goes.
func (w *World) remove() error {
	if _, err := os.Stat(w.path(marker)); err != nil {
		return nil
	}
	return os.RemoveAll(w.o.Dir)
}
