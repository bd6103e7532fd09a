package demo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// handshakeBytes is what the demonstration's valve lets through before any permit.
const handshakeBytes = 6 << 10

// checkValve replaces the gateway by one that hands out every address without a record, and
// looks how far they come.
func checkValve(ctx context.Context, w *World, e *Evidence) error {
	m, err := w.openMirror(ctx)
	if err != nil {
		return err
	}
	before, err := m.findings(ctx, "valve")
	if err != nil {
		return err
	}
	w.gateway.kill()
	e.Showf("$ kill -9 %d   (the gateway; another takes its place, which believes everybody and asks nobody)", w.gateway.pid)
	tried := w.askImpostor(ctx, e)
	if err := errors.Join(tried, w.StartGateway(ctx), w.opened(ctx, w.gateway)); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		now, err := m.findings(ctx, "valve")
		if err != nil {
			return err
		}
		if now > before {
			e.Show("and the monitor has a finding of it")
			return nil
		}
		if time.Since(began) > 30*time.Second {
			return errors.New("the monitor has no finding of it")
		}
	}
}

// askImpostor connects through the valve while an impostor stands where the gateway was.
func (w *World) askImpostor(ctx context.Context, e *Evidence) error {
	i, err := w.replaceGateway()
	if err != nil {
		return err
	}
	rows, got, asked := w.hearImpostor(ctx)
	sent, err := i.leave()
	if err != nil {
		return errors.Join(err, asked)
	}
	e.Showf("it sent %d bytes: every one of %d addresses. At the client: %d rows in %d bytes of ciphertext, then: %v", sent, w.Platform.People, rows, got, asked)
	switch {
	case sent < 2*handshakeBytes:
		return fmt.Errorf("the impostor sent only %d bytes: nothing worth stopping", sent)
	case got > handshakeBytes || asked == nil:
		return fmt.Errorf("%d bytes came through the valve that nobody permitted", got)
	}
	return nil
}

// hearImpostor asks a question and counts what comes, until the valve closes.
func (w *World) hearImpostor(ctx context.Context) (rows, bytes int64, err error) {
	s, err := connect(ctx, w.DSN("analyst-cn", "analytics"), false)
	if err != nil {
		return 0, 0, err
	}
	defer s.close()
	answers := s.conn.Exec(ctx, "SELECT email FROM app.people")
	for answers.NextResult() {
		for r := answers.ResultReader(); r.NextRow(); {
			rows++
		}
	}
	err = answers.Close()
	return rows, s.read.Load(), err
}

// findings is how many findings of a rule the monitor has.
func (m *mirror) findings(ctx context.Context, rule string) (int, error) {
	var status struct {
		ByRule map[string]int `json:"findings_by_rule"`
	}
	if code, err := fetch(ctx, m.url+"/status", m.token, &status); err != nil || code != 200 {
		return 0, fmt.Errorf("ask the monitor for its findings: HTTP %d: %w", code, err)
	}
	return status.ByRule[rule], nil
}
