// Package dataset builds datasets: databases that hold what one purpose may see, and
// nothing else.
//
// The invariant it keeps: no value above its column's form is ever sent to a dataset
// cluster. Rows leave the source as COPY text, are chosen, cut and transformed in this
// process, and only then reach the cluster: nothing is there to be found in its tables,
// indexes, statistics, WAL, temporary files or logs. Physical order tells nothing: rows are
// loaded in the order of their pseudonyms.
//
// A build writes into shadow schemas and swaps them in one transaction (docs/design/
// architecture.md, "Swap in place"); sessions that are open go on undisturbed. What it does
// not do: follow its source (a flow does), decide who may open a dataset, or judge a
// definition: it refuses what the rules it is given refuse.
package dataset

import (
	"context"
	"log/slog"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/keyring"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// Config is what a Builder needs. The zero value of a bound takes its default.
type Config struct {
	Catalogs []*catalog.Catalog // one a source database
	Datasets *catalog.Datasets
	Purposes *catalog.Purposes
	Sources  map[string]string // name of a source database → DSN of its reader
	Clusters map[string]string // inside, outside → DSN of its steward, any database of it
	Exporter string            // country of the exporter: its regime counts for every dataset

	// Definitions, by dataset, are taken as they are where given; others are made of the files.
	Definitions map[string]*trefoil.Definition

	Keys         *keyring.Ring // of pseudonyms; nil opens PseudonymKey
	PseudonymKey string        // key ring; made when it is not there
	DigestKey    string        // key file, 32 random bytes; likewise
	SubjectDir   string        // relative names of subject lists start here
	SpillDir     string        // default os.TempDir()

	MemoryBytes int64         // rows held in memory before they spill, all workers together; default 512 MiB
	MemberBytes int64         // bound of all membership sets together; default 2 GiB
	Workers     int           // tables read at a time; default 2
	SweepWait   time.Duration // how long a build waits for sessions to leave the old tables; default 2 s

	Retain     map[string]int64 // name of a source → bytes of log that it may keep for a dataset; default 32 GiB
	WatchEvery time.Duration    // how often a flow looks at the source's catalogue for drift; default 30 s

	// Restricted tells whose rows no dataset may hold now; nil: nobody's.
	Restricted RestrictedSubjects

	// Hold may refuse a definition (policy: may this purpose hold these forms). Nil asks nobody.
	Hold     func(*trefoil.Definition) error
	Recorder Recorder
	Progress Progress
	Logger   *slog.Logger
	Now      func() time.Time
}

// Recorder takes what is to be logged of a dataset. Record returns once the record is
// durable; an error fails the act it tells of.
type Recorder interface {
	Record(ctx context.Context, body trefoil.CatalogBody) error
}

// Info is what a dataset says of itself (schema trefoil_info).
type Info struct {
	Name           string
	Purpose        string
	Cluster        string
	BuiltAt        time.Time
	FreshAsOf      time.Time // the source's clock at the snapshot
	DefinitionHash string
	Measured       trefoil.Measured
}
