/*
 * stepping.c: who acts next in a turn, and for how long.
 *
 * Called by turn.c once the drafts are in the lineup.  In the order of the lineup, a draft is loaded, its mail is read, and
 * it handles what it has read.  So of those whose mail has one stamp, all have read before the first acts.
 *
 * A turn is limited in time and memory, and the next turn knows nothing of what this one has only read.  So that the next one
 * does not begin where this one began, a turn whose limit is reached while it reads still lets those act who have read: it
 * takes in what it has (harvest()), in order, but before those of the same stamp who have not read.  If nobody has read
 * anything that is due, it reads on until somebody has.
 *
 * When most of a turn has passed, what is left of it is for mail that has just come.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "deliver.h"
#include "handler.h"
#include "inbox.h"
#include "registry.h"
#include "stepping.h"

/* a turn ends early when its steps have taken that long; the second where others wait */
#define MAX_TURN_US (200 * 1000)
#define FAIR_TURN_US (5 * 1000)
/* mail is new for that long */
#define NEW_US USECS_PER_SEC
/* of a turn, before what is left of it is for new mail */
#define PART_IN_ORDER 0.75

/* the steps of a turn */
typedef struct Stepping
{
	WfTurn	   *turn;
	TimestampTz began;			/* the limits count from here */
	Size		bytes;			/* ... and from there */
	int			handled;
	bool		acted;			/* anybody */
	bool		new_acted;		/* somebody whose mail is new */
	bool		harvesting;
	WfDraft    *cold;			/* who must be activated first; NULL: nobody */
} Stepping;

static Size
turn_bytes(const Stepping *stepping)
{
	return MemoryContextMemAllocated(stepping->turn->memory, false) - stepping->bytes;
}

/*
 * Whether the next turn will not find all as this one did.  What those who had closed had left in their mailboxes counts.
 */
static bool
has_acted(const Stepping *stepping)
{
	const WfOutput *output = &stepping->turn->output;

	return stepping->acted || output->handled != NIL || output->burials != NIL;
}

/*
 * For how long to step.  Where new mail has come, or is behind a backlog in this turn, it is not to wait for all of a
 * backlog's batch.
 */
static int64
time_limit(const WfTurn *turn, const WfDraft *first)
{
	if (!turn->worker)
		return MAX_TURN_US;
	if (turn->fresh != NIL && first->place.at <= turn->now - NEW_US)
		return FAIR_TURN_US;
	return wf_registry_is_called() ? FAIR_TURN_US : MAX_TURN_US;
}

/*
 * How far the turn is, as a part of what it may take.
 */
static double
progress(const Stepping *stepping, const WfDraft *first)
{
	const WfTurn *turn = stepping->turn;
	int64		elapsed = GetCurrentTimestamp() - stepping->began;

	return Max((double) elapsed / time_limit(turn, first),
			   Max((double) stepping->handled / turn->max_events, (double) turn_bytes(stepping) / WF_MAX_TURN_BYTES));
}

static bool
is_new(const WfTurn *turn, const WfDraft *draft)
{
	return draft->place.at > turn->now - NEW_US;
}

/*
 * The first of those whose mail is new; NULL: none.
 */
static WfDraft *
first_new(const WfTurn *turn)
{
	WfDraft    *first = NULL;
	ListCell   *lc;

	foreach(lc, turn->fresh)
	{
		WfDraft    *draft = lfirst(lc);

		if (draft->in_lineup && is_new(turn, draft) &&
			(first == NULL || wf_inbox_compare(&draft->place, &first->place) < 0))
			first = draft;
	}
	return first;
}

/*
 * Whether all that comes before what the draft would handle is read.
 */
static bool
is_ripe(const WfDraft *draft)
{
	return draft->loaded && !draft->unread;
}

/*
 * The first who could act at once, in order but for those whose mail is not read; NULL: nobody.
 */
static WfDraft *
first_ripe(const WfTurn *turn)
{
	WfDraft    *first = NULL;
	ListCell   *lc;

	foreach(lc, wf_lineup_drafts(turn->lineup))
	{
		WfDraft    *draft = lfirst(lc);

		if (draft->in_lineup && is_ripe(draft) && draft->place.at < turn->before &&
			(first == NULL || wf_inbox_compare(&draft->place, &first->place) < 0))
			first = draft;
	}
	return first;
}

/*
 * From here on the turn is for those who have read mail of the first one's stamp.  The others, and what is later, are left
 * to the next turn.
 */
static void
harvest(Stepping *stepping, const WfDraft *first)
{
	WfTurn	   *turn = stepping->turn;
	ListCell   *lc;

	foreach(lc, wf_lineup_drafts(turn->lineup))
	{
		WfDraft    *draft = lfirst(lc);

		if (draft->in_lineup && !is_ripe(draft) && draft->place.at <= first->place.at)
			wf_lineup_leave(turn->lineup, draft);
	}
	turn->before = Min(turn->before, first->place.at + 1);
	stepping->harvesting = true;
	/* as much again */
	stepping->began = GetCurrentTimestamp();
	stepping->bytes += turn_bytes(stepping);
}

/*
 * The turn has reached its limit before the first one, who is next in order, has read its mail.  Returns who is to act or
 * read all the same; NULL: nobody, the turn has done something, or the next will begin elsewhere.
 *
 * Among different stamps order is kept as long as memory lasts.  Where others of one stamp have already kept a turn from
 * getting through those of it, it is not left to the next one again, whatever has been done.
 */
static WfDraft *
choose_at_limit(Stepping *stepping, WfDraft *first)
{
	WfTurn	   *turn = stepping->turn;
	bool		acted = has_acted(stepping);
	WfDraft    *ripe;

	if (stepping->harvesting || (acted && turn->cut_at != first->place.at))
		return NULL;
	ripe = first_ripe(turn);
	if (ripe != NULL &&
		(ripe->place.at == first->place.at || (!acted && turn_bytes(stepping) >= WF_MAX_TURN_BYTES)))
	{
		harvest(stepping, ripe);
		return ripe;
	}
	return acted || turn_bytes(stepping) >= 2 * WF_MAX_TURN_BYTES ? NULL : first;
}

/*
 * Who is to act next, or NULL: the turn is over.
 */
static WfDraft *
choose(Stepping *stepping)
{
	WfTurn	   *turn = stepping->turn;
	WfDraft    *first = wf_lineup_first(turn->lineup);
	WfDraft    *next = NULL;
	double		done;

	if (first == NULL || stepping->handled >= turn->max_events)
		return NULL;
	done = progress(stepping, first);
	if (done < PART_IN_ORDER && first->place.at < turn->before)
		return first;
	if (first->place.at < turn->before && !is_ripe(first))
		next = choose_at_limit(stepping, first);
	else if (first->place.at < turn->before && !has_acted(stepping))
		/* one in order at least, however long it took to activate it */
		next = first;
	/* beside a harvest at least one of them */
	if (next == NULL && (done < 1 || (stepping->harvesting && !stepping->new_acted)))
		next = first_new(turn);
	if (next == NULL && done < 1 && first->place.at < turn->before)
		next = first;
	return next;
}

/*
 * One thing that a draft has to do.  What it leads to for others is delivered at once.
 */
static void
act(Stepping *stepping, WfDraft *draft)
{
	WfTurn	   *turn = stepping->turn;

	if (draft->unread)
		wf_inbox_read(draft, &turn->output);
	else
	{
		stepping->acted = true;
		stepping->new_acted |= is_new(turn, draft);
		if (wf_draft_handle(draft, &turn->output))
			stepping->handled++;
	}
	if (turn->output.letters != NIL)
		wf_deliver_all(turn);
	if (WF_IS_CLOSED(draft->row.status))
		wf_deliver_closed(turn, draft);
	wf_lineup_update(turn->lineup, draft);
}

/*
 * Steps, until the turn is over or somebody must be activated.
 */
static void
handle_lineup(void *arg)
{
	Stepping   *stepping = arg;
	WfDraft    *draft;

	while ((draft = choose(stepping)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (draft->loaded)
			act(stepping, draft);
		else if (!wf_turn_find_resident(stepping->turn, draft))
		{
			stepping->cold = draft;
			return;
		}
	}
	stepping->cold = NULL;
}

/*
 * Lets all act.  Returns how many events were handled.
 */
int
wf_stepping_run(WfTurn *turn)
{
	Stepping	stepping = {.turn = turn,.began = GetCurrentTimestamp()};
	WfDraft    *first;

	if (choose(&stepping) != NULL)
	{
		do
		{
			if (stepping.cold != NULL)
				wf_turn_load_cold(turn, stepping.cold, MAX_TURN_US / 4);
			wf_handler_stretch(handle_lineup, &stepping);
		} while (stepping.cold != NULL);
	}
	first = wf_lineup_first(turn->lineup);
	turn->cut_at = DT_NOEND;
	if (first != NULL && first->place.at < turn->before && !is_ripe(first) && !stepping.harvesting)
		turn->cut_at = first->place.at;
	turn->acted = has_acted(&stepping);
	return stepping.handled;
}
