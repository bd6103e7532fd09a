package dataset

// Progress is told how far a build is. Its methods may be called from several goroutines.
type Progress interface {
	Stage(stage string, tables int)          // reading, loading, keys, swap, verify
	Expect(table string, rows, bytes int64)  // an estimate, before a table is read
	Advance(table string, rows, bytes int64) // since the last call
	Done(table string, rows int64)           // a table stands
}

// silent is a Progress that tells nobody.
type silent struct{}

func (silent) Stage(string, int)            {}
func (silent) Expect(string, int64, int64)  {}
func (silent) Advance(string, int64, int64) {}
func (silent) Done(string, int64)           {}
