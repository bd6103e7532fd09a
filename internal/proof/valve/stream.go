package valve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
)

// silence is how long the monitor may say nothing before it counts as gone.
const silence = 3 * credit.Beat

// again is how long the valve waits before it asks a monitor that was gone once more.
const again = 200 * time.Millisecond

// listen follows the monitor's stream for as long as ctx lasts. While there is none,
// everything is held: a valve that cannot hear a stop lets nothing go.
func (v *Valve) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := v.follow(ctx)
		v.book.hold(true)
		if ctx.Err() != nil {
			return
		}
		v.c.Logger.Warn("the monitor is not heard: everything is held", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// follow reads one stream to its end.
func (v *Valve) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(2*silence, cancel) // also while connecting
	defer silent.Stop()
	req, err := v.request(ctx, http.MethodGet, nil)
	if err != nil {
		return err
	}
	resp, err := v.c.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("ask for the stream: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for the stream: the monitor answered %d", resp.StatusCode)
	}
	lines := credit.NewReader(resp.Body)
	for {
		silent.Reset(silence)
		l, err := lines.Next()
		if err != nil {
			return err
		}
		switch l.Kind {
		case credit.State:
			v.book.hold(l.Stopped)
		case credit.Credit:
			if err := v.book.grant(l); err != nil {
				v.c.Logger.Error("session's name not kept", "valve", l.Valve, "error", err)
			}
		}
	}
}

func (v *Valve) request(ctx context.Context, method string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, v.c.Monitor+"/valve", body)
	if err != nil {
		return nil, fmt.Errorf("ask the monitor: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+v.c.Token)
	return req, nil
}

// report tells the monitor of connections that were closed, one a second at most: a gateway
// cannot fill the monitor's disk with them. The others are counted.
func (v *Valve) report(ctx context.Context) {
	for {
		var r credit.Report
		select {
		case <-ctx.Done():
			return
		case r = <-v.reports:
		}
		r.More = v.missed.Swap(0)
		for more := true; more; {
			select {
			case <-v.reports:
				r.More++
			default:
				more = false
			}
		}
		for v.send(ctx, r) != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (v *Valve) send(ctx context.Context, r credit.Report) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	req, err := v.request(ctx, http.MethodPost, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := v.c.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		v.c.Logger.Error("the monitor does not take a report", "status", resp.StatusCode)
		return fmt.Errorf("report: the monitor answered %d", resp.StatusCode)
	}
	return nil
}
