package enclave

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/release"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// runner hands sessions of the release path from the gateway to release.
type runner struct {
	now       *inForce
	auth      *Authoriser
	log       *accesslog.Log
	permitter release.Permitter
	trust     *trefoil.Trust
	others    *trefoil.Trust // nil: nothing is released without the monitor
	limits    release.Limits
	store     *release.Store
	quota     *quota
	keyer     keyer
	epoch     *release.Epoch
	meters    *meters
	spans     *spans
	logger    *slog.Logger

	mu     sync.Mutex
	shared map[string]*sharedByDataset
}

// sharedByDataset is what the sessions of one dataset have in common.
type sharedByDataset struct {
	classifier *statement.Classifier
	state      *statement.Shared
}

// Run implements gateway.ReleaseRunner.
func (r *runner) Run(ctx context.Context, s gateway.ReleaseSession) error {
	common, opened := r.common(s.Access.Dataset), r.auth.Take(s.Access.Session)
	ended := common.state.Ended()
	reason, empty := look(s.Server)
	backend := 0
	if reason == nil {
		var err error
		if backend, err = number(s.Server); err != nil {
			reason = &unseen // what cannot be measured is not bounded
		}
	}
	session, err := release.New(release.Config{
		Client: s.Client, Server: s.Server, Origin: r.now.get().Config.Log.Origin, Access: s.Access,
		Evidence: opened.Evidence, Statement: opened.Statement, Valve: s.Valve, Parameters: s.Parameters, KeyData: s.KeyData, Notice: s.Notice,
		FixedSoFar: s.Fixed, Recorder: measuredRecorder{recorder{r.log}, r.meters, r.spans}, Permitter: r.permitter, Trust: r.trust,
		AllowUnpermitted: opened.InRegion && r.others != nil, Others: r.others,
		Classifier: common.classifier, Shared: common.state, Key: r.keyer.key, Epoch: r.epoch, Cancel: s.Cancel,
		Limits: r.limits, Store: r.store, SpillDir: r.now.get().Config.Gateway.SpillDir, Logger: r.logger,
	})
	if err != nil {
		return err
	}
	if reason != nil {
		session.Stop(*reason)
	} else {
		defer r.quota.enter(s.Access.Dataset, backend, session)()
	}
	if reason == nil && empty {
		common.state.Swept(ended)
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-ctx.Done():
			session.Stop(stopReason(context.Cause(ctx)))
			return
		case <-s.Draining:
			session.Drain()
		case <-over:
			return
		}
		select {
		case <-ctx.Done():
			session.Stop(stopReason(context.Cause(ctx)))
		case <-over:
		}
	}()
	traced, end := r.spans.session(context.WithoutCancel(ctx), s.Access)
	err = session.Run(traced)
	end(err)
	return err
}

// stopReason words the gateway's reason to end a session.
func stopReason(cause error) release.StopReason {
	var end *gateway.End
	if !errors.As(cause, &end) {
		return release.Drained
	}
	return release.StopReason{Outcome: end.Outcome, SQLState: end.SQLState, Message: end.Message}
}

func (r *runner) common(dataset string) *sharedByDataset {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.shared[dataset]; c != nil {
		return c
	}
	var tables []string
	if def := r.now.get().Definitions[dataset]; def != nil {
		for _, c := range def.Columns {
			if n := len(tables); n == 0 || tables[n-1] != c.Table { // sorted by table
				tables = append(tables, c.Table)
			}
		}
	}
	c := &sharedByDataset{statement.NewClassifier(tables), new(statement.Shared)}
	r.shared[dataset] = c
	return c
}

// recorder is the access log as release needs it.
type recorder struct{ log *accesslog.Log }

// Append implements release.Recorder.
func (r recorder) Append(ctx context.Context, rec trefoil.Record, opening []byte) (release.Ticket, error) {
	t, err := r.log.Append(ctx, rec, opening)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// StorePermit implements release.Recorder.
func (r recorder) StorePermit(index uint64, permit string) error {
	return r.log.StorePermit(index, permit)
}

// keyer keys the fingerprints of statements, and accounts for those of services.
type keyer struct {
	secret     []byte
	classifier *statement.Classifier
}

// key returns 16 hex digits: equal statements are equal, and nobody without the secret can
// search for one.
func (k keyer) key(fingerprint string) string {
	if fingerprint == "" {
		return ""
	}
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(fingerprint))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// Account implements gateway.Accountant.
func (k keyer) Account(text []byte) (fingerprint, kind string, ok bool) {
	info := k.classifier.Analyze(string(text))
	if info.Fingerprint == "" {
		return "", "", false
	}
	return k.key(info.Fingerprint), info.Kind, true
}
