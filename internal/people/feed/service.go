package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
)

// Parts are what a service works with. All are needed but Now.
type Parts struct {
	Store    decision.Store
	State    State
	Recorder Recorder
	Logger   *slog.Logger
	Now      func() time.Time // default time.Now
}

// Service ranks. Its methods may be called concurrently.
type Service struct {
	config    *Config
	store     decision.Store
	state     State
	recorder  Recorder
	logger    *slog.Logger
	now       func() time.Time
	archive   *archive
	incidents *incidents
	surfaces  map[string]*surface
}

// surface is one place where items are ranked.
type surface struct {
	name    string
	config  SurfaceConfig
	current atomic.Pointer[bound] // the last that loaded whole; never nil

	mu    sync.Mutex // one load at a time
	stamp string     // of the files as last looked at
	fault string     // why the newest files did not load; "" if they did
}

// New loads every surface. At the start a model that does not load is an error: there is no
// last good one to keep.
func New(ctx context.Context, c *Config, p Parts) (*Service, error) {
	if p.Now == nil {
		p.Now = time.Now
	}
	s := &Service{config: c, store: p.Store, state: p.State, recorder: p.Recorder, logger: p.Logger, now: p.Now,
		archive: &archive{dir: c.Archive}, surfaces: map[string]*surface{},
		incidents: &incidents{state: p.State, recorder: p.Recorder, now: p.Now}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Surfaces)) {
		sf := &surface{name: name, config: c.Surfaces[name]}
		if err := s.load(ctx, sf); err != nil {
			errs = append(errs, fmt.Errorf("surface %s: %w", name, err))
		}
		s.surfaces[name] = sf
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) surface(name string) (*surface, error) {
	if sf := s.surfaces[name]; sf != nil {
		return sf, nil
	}
	return nil, refuse(CodeSurface, "no such surface")
}

// load reads a surface's files and puts them into production: archived first, then in the
// log, then in use.
func (s *Service) load(ctx context.Context, sf *surface) error {
	sf.stamp = stamp(sf.config.Model) + stamp(sf.config.Features)
	b, err := loadBound(sf.config.Model, sf.config.Features)
	if err != nil {
		return err
	}
	for group := range sf.config.Weights {
		if !slices.ContainsFunc(b.groups(), func(g string) bool { return g == group }) {
			return fmt.Errorf("weights name %s, which is no group of the features file", group)
		}
	}
	err = s.archive.keep(b)
	if err == nil {
		err = s.announce(ctx, sf, b)
	}
	if err != nil {
		sf.stamp = "" // the files are good: try again
		return err
	}
	sf.current.Store(b)
	return nil
}

func (b *bound) groups() []string {
	var names []string
	for _, g := range b.words.File.Groups {
		names = append(names, g.Group)
	}
	return names
}

// inProduction is what the state keeps of a surface's model.
type inProduction struct {
	Model    string    `json:"model"`
	Features string    `json:"features"`
	Format   string    `json:"format"`
	Since    time.Time `json:"since"`
}

func (b *bound) body(event, surface, sheet string) *trefoil.ModelBody {
	return &trefoil.ModelBody{Event: event, Surface: surface, Format: string(b.model.Format), Model: b.modelHash.String(),
		Features: b.wordsHash.String(), Sheet: sheet}
}

// announce records a model that enters production, and the one that leaves it. The same
// model after a restart is no news.
func (s *Service) announce(ctx context.Context, sf *surface, b *bound) error {
	var was inProduction
	if _, err := s.state.Get(ctx, "production/"+sf.name, &was); err != nil {
		return err
	}
	is := inProduction{Model: b.modelHash.String(), Features: b.wordsHash.String(), Format: string(b.model.Format), Since: s.now().UTC()}
	if was.Model == is.Model && was.Features == is.Features {
		return nil
	}
	record := func(m *trefoil.ModelBody) error {
		if err := s.recorder.Enqueue(ctx, &trefoil.Body{At: is.Since, Kind: trefoil.KindModel, Model: m}); err != nil {
			return fmt.Errorf("record model: %w", err)
		}
		return nil
	}
	if was.Model != "" {
		if err := record(&trefoil.ModelBody{Event: "retired", Surface: sf.name, Format: was.Format, Model: was.Model, Features: was.Features}); err != nil {
			return err
		}
		if err := s.state.Put(ctx, "previous/"+sf.name, was); err != nil {
			return err
		}
	}
	if err := record(b.body("production", sf.name, "")); err != nil {
		return err
	}
	return s.state.Put(ctx, "production/"+sf.name, is)
}

// stamp changes when a file does, as far as its directory entry tells.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "absent;"
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size(), ";")
}

// Reload looks at every surface's files and loads those that changed. A surface whose new
// files do not load keeps its model; Status and an incident say so.
func (s *Service) Reload(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.surfaces)) {
		errs = append(errs, s.reload(ctx, s.surfaces[name]))
	}
	return errors.Join(errs...)
}

func (s *Service) reload(ctx context.Context, sf *surface) error {
	sf.mu.Lock()
	defer sf.mu.Unlock()
	if stamp(sf.config.Model)+stamp(sf.config.Features) == sf.stamp {
		return nil
	}
	err := s.load(ctx, sf)
	sf.fault = ""
	if err != nil {
		sf.fault = err.Error()
		s.logger.Error("a model file does not load: the last good one goes on", "surface", sf.name, "err", err)
	} else {
		s.logger.Info("model in production", "surface", sf.name, "model", sf.current.Load().model.Hash)
		if err := s.checkSheet(ctx, sf.name); err != nil {
			s.logger.Error("sheet of a new model", "surface", sf.name, "err", err)
		}
	}
	if err := s.incidents.set(ctx, sf.name, ReasonNotLoaded, sf.fault != ""); err != nil {
		sf.stamp = "" // look again
		return err
	}
	return nil
}

// Status is what one surface serves.
type Status struct {
	Surface   string     `json:"surface"`
	Model     string     `json:"model"`
	Features  string     `json:"features"`
	Fault     string     `json:"fault,omitempty"` // why the newest files are not served
	Incidents []Incident `json:"incidents"`
}

// Status lists every surface.
func (s *Service) Status(ctx context.Context) ([]Status, error) {
	out := []Status{}
	for _, name := range slices.Sorted(maps.Keys(s.surfaces)) {
		sf := s.surfaces[name]
		b := sf.current.Load()
		open, err := s.incidents.list(ctx, name)
		if err != nil {
			return nil, err
		}
		sf.mu.Lock()
		fault := sf.fault
		sf.mu.Unlock()
		out = append(out, Status{Surface: name, Model: b.modelHash.String(), Features: b.wordsHash.String(), Fault: fault,
			Incidents: append([]Incident{}, open...)})
	}
	return out, nil
}

// Now is the service's clock.
func (s *Service) Now() time.Time { return s.now() }
