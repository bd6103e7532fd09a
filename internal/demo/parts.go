package demo

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/rules/policy"
)

// StartMonitor starts the monitor, or starts it again.
func (w *World) StartMonitor(ctx context.Context) error {
	w.freePorts(w.monitorAddr)
	p, err := w.spawn("monitor", "monitor", "--dir", w.path("monitor"))
	if err != nil {
		return err
	}
	w.monitor = p
	return w.await(ctx, p, 30*time.Second, func(ctx context.Context) error {
		return get(ctx, "http://"+w.monitorAddr+"/healthz")
	})
}

// StartGateway starts the gateway with its log.
func (w *World) StartGateway(ctx context.Context) error {
	w.freePorts(w.gatewayAddr, w.logAddr, w.doorAddr)
	p, err := w.spawn("gateway", "gateway", "-c", w.path("enclave", "enclave.yaml"))
	if err != nil {
		return err
	}
	w.gateway = p
	return w.await(ctx, p, 60*time.Second, func(ctx context.Context) error {
		if err := get(ctx, "http://"+w.logAddr+"/checkpoint"); err != nil {
			return err
		}
		_, err := w.ask(ctx, "app", "platform", "SELECT 1")
		return err
	})
}

// StartValve starts the monitor's valve, where there is to be one.
func (w *World) StartValve(ctx context.Context) error {
	if !w.o.Valve {
		return nil
	}
	w.freePorts(w.valveAddr)
	p, err := w.spawn("valve", "valve", "-c", w.path("monitor", "valve.yaml"))
	if err != nil {
		return err
	}
	w.valve = p
	return w.await(ctx, p, 60*time.Second, func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", w.valveAddr)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// StartFollower starts the process that keeps the datasets in step with the platform, and waits
// until all of them are.
func (w *World) StartFollower(ctx context.Context) error {
	p, err := w.spawn("follower", append([]string{"dataset", "follow", "-c", w.path("enclave", "enclave.yaml")}, datasets[:]...)...)
	if err != nil {
		return err
	}
	w.follower = p
	return w.await(ctx, p, 5*time.Minute, func(ctx context.Context) error {
		for _, name := range datasets {
			if err := w.follows(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// follows looks into a dataset, as its administrator, for the state of its flow.
func (w *World) follows(ctx context.Context, name string) error {
	cluster := w.inside
	if name == "analytics" {
		cluster = w.outside
	}
	return cluster.AsSuperuser(ctx, name, func(conn *pgx.Conn) error {
		var state, reason string
		err := conn.QueryRow(ctx, "SELECT state, reason FROM trefoil_info.flow").Scan(&state, &reason)
		if err == nil && state != "following" {
			err = fmt.Errorf("dataset %s: %s: %s", name, state, reason)
		}
		return err
	})
}

// get wants a 200.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d", url, resp.StatusCode)
	}
	return nil
}

// writePolicy writes the policies that Trefoil ships, with their corpus.
func (w *World) writePolicy() error {
	shipped := policy.Shipped()
	return fs.WalkDir(shipped, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(w.path("enclave", "policy"), filepath.FromSlash(path))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := fs.ReadFile(shipped, path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o644)
	})
}

// datasets are built in this order.
var datasets = [...]string{"support", "analytics", "abuse"}

// makeDatasets builds each dataset, or has them built and kept by a process that follows, and
// waits until they may be opened.
func (w *World) makeDatasets(ctx context.Context) error {
	by := w.gateway
	if w.o.Follow {
		if err := w.StartFollower(ctx); err != nil {
			return err
		}
		by = w.follower
	} else {
		for _, name := range datasets {
			if _, err := w.enclave(ctx, "dataset", "build", name); err != nil {
				return err
			}
		}
	}
	return w.opened(ctx, by)
}

// opened waits until datasets can be opened in the region and outside it: the monitor has to
// acknowledge their definitions.
func (w *World) opened(ctx context.Context, by *process) error {
	return w.await(ctx, by, 60*time.Second, func(ctx context.Context) error {
		for who, dataset := range map[string]string{"analyst-ie": "support", "analyst-cn": "analytics"} {
			if _, err := w.ask(ctx, who, dataset, "SELECT 1"); err != nil {
				return err
			}
		}
		return nil
	})
}

// grantJapan gives the analyst in Japan a grant for abuse: clear forms in an adequate
// country need one.
func (w *World) grantJapan(ctx context.Context) error {
	if err := w.grant(ctx, &Evidence{}, "analyst-jp", "abuse", "720h", "standing duty of the abuse desk"); err != nil {
		return err
	}
	return w.await(ctx, w.gateway, 30*time.Second, func(ctx context.Context) error {
		_, err := w.ask(ctx, "analyst-jp", "abuse", "SELECT 1")
		return err
	})
}

var requestID = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// grant asks for a dataset and signs the approval, by the command line.
func (w *World) grant(ctx context.Context, e *Evidence, who, dataset, term, reason string) error {
	asked, err := w.enclave(ctx, "request", "--as", who, "--dataset", dataset, "--for", term, "--reason", reason)
	if err != nil {
		return err
	}
	id := requestID.FindString(asked)
	if id == "" {
		return fmt.Errorf("the request has no id: %s", asked)
	}
	e.Showf("$ trefoil request --as %s --dataset %s --for %s --reason %q", who, dataset, term, reason)
	first, _, _ := strings.Cut(asked, "\n")
	e.Show(first)
	approved, err := w.enclave(ctx, "approve", id, "--key", w.path("enclave", "keys", "approver"))
	if err != nil {
		return err
	}
	e.Showf("$ trefoil approve %s --key approver", id)
	e.Show(approved)
	return nil
}
