package enclave

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// kept is what a reload takes over while its configuration stays: an issuer's keys, which
// may have to serve while the issuer is away, and the file of address ranges, which sessions
// that are being opened still read.
type kept struct {
	issuers []identity.IssuerConfig
	oidc    *identity.OIDC
	path    string
	stamp   string
	ranges  *identity.Countries
}

// live is what the gateway serves by under these rules. Tokens are in the log before it
// returns.
func (p *process) live(ctx context.Context, r *Rules) (gateway.Live, error) {
	out := gateway.Live{Directory: r.People.Directory, RequireTLS: r.Config.Gateway.RequireTLS}
	var err error
	if path := r.Config.NetworkCountries; path != p.kept.path || stamp(path) != p.kept.stamp {
		var ranges *identity.Countries
		if path != "" {
			if ranges, err = identity.OpenCountries(path); err != nil {
				return out, err
			}
		}
		p.kept.path, p.kept.stamp, p.kept.ranges = path, stamp(path), ranges
	}
	if out.Locator, err = r.Config.locator(time.Now(), p.kept.ranges); err != nil {
		return out, err
	}
	if out.TLS, err = r.Config.serverTLS(); err != nil {
		return out, err
	}
	if out.OIDC, out.Certificates, err = r.Config.logins(p.logger); err != nil {
		return out, err
	}
	if p.kept.oidc != nil && reflect.DeepEqual(p.kept.issuers, r.Config.Identity.OIDC) {
		out.OIDC = p.kept.oidc
	}
	p.kept.issuers, p.kept.oidc = r.Config.Identity.OIDC, out.OIDC
	if out.Limits, err = r.Config.limits(); err != nil {
		return out, err
	}
	if p.tokens == nil {
		if p.tokens, err = r.Config.openTokenBook(p.scribe); err != nil {
			return out, err
		}
	}
	return out, p.tokens.record(ctx, r.People.Tokens)
}

// announceMode records whether the gateway decides, or only observes.
func (p *process) announceMode(ctx context.Context, r *Rules) error {
	if r.Config.Mode == ModeObserve {
		p.logger.Warn("mode observe: sessions of the source databases' own users are recorded and not decided; nobody is protected by it")
		return p.scribe.Record(ctx, p.siteBody("observing"))
	}
	return nil
}

// reloads reads the configuration again at each hangup, tokens.yaml when it changes, and the
// epochs of keys when purposes.yaml does, until ctx ends.
func (p *process) reloads(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	seen, purposes := stamp(p.config.Tokens), stamp(p.config.Purposes)
	for turn := 0; ; turn++ {
		var err error
		select {
		case <-ctx.Done():
			if err := p.tokens.flush(); err != nil {
				p.logger.Error("last use of access tokens not kept", "error", err)
			}
			return
		case <-p.config.runtime.Hangup:
			seen, purposes = stamp(p.config.Tokens), stamp(p.config.Purposes)
			err = p.reload(ctx)
		case <-tick.C:
			if now := stamp(p.config.Tokens); now != seen {
				seen = now
				err = p.reloadTokens(ctx)
			}
			if now := stamp(p.config.Purposes); now != purposes {
				purposes = now
				err = errors.Join(err, p.reloadEpochs(ctx))
			}
			if turn%40 == 39 {
				err = errors.Join(err, p.tokens.flush())
			}
		}
		if err != nil {
			p.logger.Error("reload failed: what was in force stays in force", "error", err)
		}
	}
}

// stamp tells one state of a file from another.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size(), reflect.ValueOf(info.Sys()).Elem().FieldByName("Ino"))
}

// reload puts the configuration as it is on disk now in force, all of it or nothing.
func (p *process) reload(ctx context.Context) error {
	old := p.auth.now.get()
	read, err := Load(p.config.path)
	if err != nil {
		return err
	}
	merged, changed, waiting := merge(old.Config, read)
	next, err := LoadRules(merged)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(next.Files.Catalogs, old.Files.Catalogs) || !reflect.DeepEqual(next.Files.Datasets, old.Files.Datasets) {
		waiting = append(waiting, "catalogs and datasets")
		keepDefinitions(old, next)
	}
	if len(waiting) > 0 {
		p.logger.Warn("changed, and only a restart puts it in force", "keys", waiting)
	}
	if err := p.enforce(ctx, old, next, append(changed, compare(old, next)...)); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if n := p.gateway.Recheck(bounded); n > 0 {
		p.logger.Info("sessions ended that the rules now refuse", "sessions", n)
	}
	return nil
}

// keepDefinitions leaves what datasets are as it was: they are built by it.
func keepDefinitions(old, next *Rules) {
	next.Files, next.CatalogHash = old.Files, old.CatalogHash
	next.Definitions, next.Classes = old.Definitions, old.Classes
}

// reloadTokens puts tokens.yaml in force.
func (p *process) reloadTokens(ctx context.Context) error {
	old := p.auth.now.get()
	tokens, err := old.Config.readTokens()
	if err != nil {
		return err
	}
	next := *old
	if next.People, err = old.People.with(tokens); err != nil {
		return err
	}
	return p.enforce(ctx, old, &next, compare(old, &next))
}

// enforce records what comes into force, puts it in force, and ends the sessions whose login
// no longer stands.
func (p *process) enforce(ctx context.Context, old, next *Rules, differences []string) error {
	live, err := p.live(ctx, next)
	if err != nil {
		return err
	}
	if err := p.announceChange(ctx, old, next); err != nil {
		return err
	}
	p.auth.now.set(next)
	ended, err := p.gateway.Reload(live)
	if err != nil {
		p.auth.now.set(old)
		return err
	}
	if r := p.config.runtime; r.Level != nil && !r.Pinned {
		level, _ := logLevel(next.Config.Gateway.LogLevel) // checked by Load
		r.Level.Set(level)
	}
	p.logger.Info("reloaded", "changed", differences, "sessions_ended", ended)
	return nil
}

// announceChange records new rules before they are in force.
func (p *process) announceChange(ctx context.Context, old, next *Rules) error {
	if was, is := old.Hashes("", p.binary), next.Hashes("", p.binary); was != is {
		if err := p.scribe.Record(ctx, &trefoil.Body{Kind: trefoil.KindPolicy, Policy: &trefoil.PolicyBody{Hashes: is}}); err != nil {
			return err
		}
	}
	if old.Config.Mode == next.Config.Mode {
		return nil
	}
	if next.Config.Mode == ModeObserve {
		return p.announceMode(ctx, next)
	}
	p.logger.Info("mode enforce")
	return p.scribe.Record(ctx, p.siteBody("enforcing"))
}
