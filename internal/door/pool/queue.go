package pool

// item is something the server still has to answer, in the order of the client's stream.
type item struct {
	typ     byte       // of the frontend message; copyEnd and faked are none
	ours    bool       // the client did not send it: it hears nothing of the answer
	quiet   bool       // of ours: not even of an error; of a Parse: the server has it; of DEALLOCATE: it had not
	stmt    *Statement // Parse: becomes prepared; Close and DEALLOCATE: ceases to be
	name    string     // the client's name for stmt; with ours: none
	version uint32     // Parse of the unnamed statement: which
	saved   *forgotten // of Query: what it forgets
}

// Types of items that the server has nothing to say to.
const (
	fakedParse = 1 // a ParseComplete that the client gets from here
	fakedClose = 2 // a CloseComplete that the client gets from here
	copyEnd    = 3 // CopyDone or CopyFail: from here on the server answers Sync again
)

// forgotten is what a statement is expected to forget, until it is known whether it did.
type forgotten struct {
	names map[string]*Statement // of the client
	there []*Statement          // on the server
}

// queue is a fifo that keeps its memory.
type queue struct {
	items []item
	first int
}

func (q *queue) len() int       { return len(q.items) - q.first }
func (q *queue) head() *item    { return &q.items[q.first] }
func (q *queue) at(i int) *item { return &q.items[q.first+i] }

func (q *queue) push(i item) {
	if q.first > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, i)
}

func (q *queue) pop() item {
	i := q.items[q.first]
	q.items[q.first] = item{}
	if q.first++; q.first == len(q.items) {
		q.items, q.first = q.items[:0], 0
		if cap(q.items) > 256 {
			q.items = nil // a large pipeline is over
		}
	}
	return i
}

// remove takes out n items from position i on.
func (q *queue) remove(i, n int) {
	q.items = append(q.items[:q.first+i], q.items[q.first+i+n:]...)
	if q.first == len(q.items) {
		q.items, q.first = q.items[:0], 0
	}
}
