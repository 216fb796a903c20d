%% Erlang's side of bench-otp: gen_server, supervisor and poolboy under the same jobs as the others'.
%%
%% erl +S 2:2 -noinput -pa Dir -run otp main Case Size Scale
%%
%% Prints one line of JSON. Compiled by erlc: an interpreted script would be slower by far.
-module(otp).
-behaviour(gen_server).
-export([main/1]).
-export([start_link/1, start_named/1, start_task/0, task/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(FEW, 100).
-define(GROUP, 10).
-define(POOL, 10).
-define(WINDOW, 3600).
-define(INTENSITY, 1000000000).

main([Case, Size, Scale]) ->
    %% No crash report is made, formatted or printed.
    ok = logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Figures = measure(string:lexemes(Case, "-"), list_to_integer(Size), list_to_integer(Scale)),
    Fields = [io_lib:format("\"~s\":~f", [Name, float(Value)]) || {Name, Value} <- Figures],
    io:format("{~s}~n", [lists:join(",", Fields)]),
    erlang:halt(0).

measure(["call", Callers], Size, _) ->
    {ok, Server} = start_link(none),
    calls(list_to_integer(Callers), Size, fun() -> gen_server:call(Server, ask) end);
measure(["cast"], Size, _) ->
    {ok, Server} = start_link(none),
    Send = fun(N) -> casts(Server, N), gen_server:call(Server, ask, infinity) end,
    Send(Size div 10),
    {Us, _} = timed(fun() -> Send(Size) end),
    [{per_s, Size * 1.0e6 / Us}];
measure(["children", Kind], Size, _) ->
    children(Kind, Size);
measure(["pool", Clients], Size, _) ->
    Options = [{worker_module, ?MODULE}, {size, ?POOL}, {max_overflow, 0}],
    {ok, Pool} = poolboy:start_link(Options, none),
    Work = fun(Worker) -> gen_server:call(Worker, ask) end,
    calls(list_to_integer(Clients), Size, fun() -> poolboy:transaction(Pool, Work) end);
measure(["worn", Exit], Size, Scale) ->
    grow(one_for_one, 0),
    crashes(child_0, child_0, error, Scale),
    percentiles(crashes(child_0, child_0, list_to_atom(Exit), Size));
measure(["crowd", Exit], Size, Scale) ->
    grow(one_for_one, Scale),
    crashes(child_0, child_0, list_to_atom(Exit), Size div 10),
    percentiles(crashes(child_0, child_0, list_to_atom(Exit), Size));
measure(["sustained"], Size, _) ->
    grow(one_for_one, 0),
    {Us, _} = timed(fun() -> crashes(child_0, child_0, error, Size) end),
    [{per_s, Size * 1.0e6 / Us}];
measure([Strategy, Exit], Size, _) ->
    few(list_to_atom(Strategy), list_to_atom(Exit), (Size + ?FEW - 1) div ?FEW).

%% Fresh supervisors, so that the history of restarts stays short.
few(Strategy, Exit, Rounds) ->
    Round = fun(_) ->
        {Supervisor, First, Last} = grow(Strategy, 0),
        crashes(First, Last, Exit, ?FEW div 10),
        Times = crashes(First, Last, Exit, ?FEW),
        stop(Supervisor),
        Times
    end,
    percentiles(lists:append([Round(N) || N <- lists:seq(1, Rounds)])).

grow(Strategy, Siblings) ->
    Group = case Strategy of one_for_one -> 1; _ -> ?GROUP end,
    Names = [list_to_atom("child_" ++ integer_to_list(N)) || N <- lists:seq(0, Group - 1)],
    Named = [child(Name, start_named, Name) || Name <- Names],
    Others = [child(N, start_link, none) || N <- lists:seq(1, Siblings)],
    {ok, Supervisor} = supervisor:start_link(?MODULE, {supervisor, Strategy, Named ++ Others}),
    {Supervisor, hd(Names), lists:last(Names)}.

child(Id, Start, Argument) ->
    #{id => Id, start => {?MODULE, Start, [Argument]}}.

%% From the sending of what makes First end until Last answers as a new life.
crashes(First, Last, Exit, Times) ->
    crashes(First, Last, Exit, Times, life(First, none), life(Last, none), []).

crashes(_, _, _, 0, _, _, Taken) ->
    Taken;
crashes(First, Last, Exit, Left, FirstLife, LastLife, Taken) ->
    Begun = erlang:monotonic_time(),
    case Exit of
        kill -> exit(FirstLife, kill);
        _ -> gen_server:cast(First, Exit)
    end,
    NewLast = life(Last, LastLife),
    Time = erlang:monotonic_time() - Begun,
    NewFirst = life(First, FirstLife),
    crashes(First, Last, Exit, Left - 1, NewFirst, NewLast, [Time | Taken]).

life(Name, Before) ->
    try gen_server:call(Name, life) of
        Before -> erlang:yield(), life(Name, Before);
        Life -> Life
    catch
        exit:_ -> erlang:yield(), life(Name, Before)
    end.

children(Kind, Size) ->
    Start = case Kind of
        "servers" -> {?MODULE, start_link, [none]};
        "tasks" -> {?MODULE, start_task, []}
    end,
    Child = #{id => child, start => Start},
    {ok, Supervisor} = supervisor:start_link(?MODULE, {supervisor, simple_one_for_one, [Child]}),
    Before = resident(),
    {Started, _} = timed(fun() -> start_children(Supervisor, Size) end),
    %% The garbage of the supervisor is no child's.
    erlang:garbage_collect(Supervisor),
    Bytes = (resident() - Before) / Size,
    {Stopped, _} = timed(fun() -> stop(Supervisor) end),
    [{start_ms, Started / 1000}, {bytes, Bytes}, {stop_ms, Stopped / 1000}].

start_children(_, 0) ->
    ok;
start_children(Supervisor, Left) ->
    {ok, _} = supervisor:start_child(Supervisor, []),
    start_children(Supervisor, Left - 1).

stop(Supervisor) ->
    Monitor = monitor(process, Supervisor),
    unlink(Supervisor),
    exit(Supervisor, shutdown),
    receive {'DOWN', Monitor, process, Supervisor, _} -> ok end.

resident() ->
    {ok, File} = file:open("/proc/self/statm", [read, raw, binary]),
    {ok, Line} = file:read(File, 200),
    file:close(File),
    [_, Pages | _] = binary:split(Line, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.

calls(Callers, Size, Call) ->
    round(Callers, Size div 10, Call),
    {Us, Times} = timed(fun() -> round(Callers, Size, Call) end),
    [{per_s, length(Times) * 1.0e6 / Us} | percentiles(Times)].

round(Callers, Size, Call) ->
    Each = Size div Callers,
    Self = self(),
    Caller = fun() -> Self ! {self(), each(Each, Call, [])} end,
    Pids = [spawn_link(Caller) || _ <- lists:seq(1, Callers)],
    lists:append([receive {Pid, Times} -> Times end || Pid <- Pids]).

each(0, _, Taken) ->
    Taken;
each(Left, Call, Taken) ->
    Begun = erlang:monotonic_time(),
    Call(),
    each(Left - 1, Call, [erlang:monotonic_time() - Begun | Taken]).

casts(_, 0) -> ok;
casts(Server, Left) ->
    gen_server:cast(Server, {add, Left}),
    casts(Server, Left - 1).

timed(Fun) ->
    Begun = erlang:monotonic_time(),
    Result = Fun(),
    {erlang:convert_time_unit(erlang:monotonic_time() - Begun, native, microsecond), Result}.

percentiles(Times) ->
    Sorted = list_to_tuple(lists:sort(Times)),
    At = fun(Share) ->
        Index = max(1, ceil(tuple_size(Sorted) * Share)),
        erlang:convert_time_unit(element(Index, Sorted), native, nanosecond) / 1000
    end,
    [{p50_us, At(0.50)}, {p99_us, At(0.99)}].

%% A child that is a server.

start_link(Argument) ->
    gen_server:start_link(?MODULE, Argument, []).

start_named(Name) ->
    gen_server:start_link({local, Name}, ?MODULE, none, []).

init({supervisor, Strategy, Children}) ->
    {ok, {#{strategy => Strategy, intensity => ?INTENSITY, period => ?WINDOW}, Children}};
init(_) ->
    {ok, 0}.

handle_call(ask, _, Sum) -> {reply, Sum, Sum};
handle_call(life, _, Sum) -> {reply, self(), Sum}.

handle_cast({add, N}, Sum) -> {noreply, Sum + N};
handle_cast(error, Sum) -> {stop, asked_to, Sum};
handle_cast(panic, _) -> error(asked_to).

handle_info(_, Sum) -> {noreply, Sum}.

%% A child that is a plain process and ends when it is told to.

start_task() ->
    proc_lib:start_link(?MODULE, task, [self()]).

task(Supervisor) ->
    proc_lib:init_ack(Supervisor, {ok, self()}),
    receive stop -> ok end.
