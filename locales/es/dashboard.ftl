### El panel. Se trata de usted.
###
### Valores: $count es un número, que elige el plural y se escribe en el formato del lector; los demás son texto.
### Una frase es un texto, o un texto para cada plural de $count: `services/gateway/dashboard/phrases.js` se hace de este archivo.

## Marco y sesión

skip = Ir a las cifras
signOut = Cerrar sesión
signIn = Entrar
signInTitle = Entrar en Flowmeter
signInHelp = Use el token de un operador, o el de un cliente, que muestra solo a ese cliente.
token = Token
signInRefused = Este token no es válido. Puede que se haya revocado.
unreachable = No se puede conectar con Flowmeter. Inténtelo de nuevo en un momento.
signInTooMany = Demasiados intentos. Inténtelo de nuevo en un minuto.
sessionEnded = La sesión ha terminado. Inicie sesión de nuevo.
footer = Flowmeter cuenta ejecuciones de flujos, cada una exactamente una vez.
api = API
theme = Tema
themeSystem = Sistema
themeLight = Claro
themeDark = Oscuro
language = Idioma
live = En directo
connecting = Conectando…
offline = Sin conexión, reintentando…
offlineNotice = Sin conexión con Flowmeter desde las { $time }. Estas son las últimas cifras recibidas.
loading = Cargando…
loadFailed = No se pueden leer estas cifras: { $reason }
cannotBeShown = Estas cifras no se pueden mostrar: { $reason }
notFound = No existe el cliente «{ $tenant }», o este token no puede verlo.
noTenants = Aún no hay clientes
noTenantsHelp = Añada un plan, un cliente y un origen con «flowmeter apply», y aquí aparecerán las primeras cifras.

## Todos los clientes

overview = Consumo
tenants = Clientes
allTenants = Todos los clientes
archived = Archivado
archivedOn = Archivado: { $date }
archivedTenants = { $count ->
    [one] { $count } cliente archivado
   *[other] { $count } clientes archivados
}
archivedHelp = Clientes eliminados. Sus cifras se siguen pudiendo leer, lo que deben se factura igualmente y sus identificadores no se vuelven a usar.
archivedMore = { $count ->
    [one] y { $count } más: flowmeter tenants --archived
   *[other] y { $count } más: flowmeter tenants --archived
}
stateOk = Dentro del límite
stateOkSoFar = Dentro del límite, por ahora
stateWarning = Cerca del límite
stateOver = Límite superado
stateUnknown = Desconocido
filterAll = Todos
filterLabel = Mostrar clientes
noneInState = Ningún cliente está en este estado.
findTenant = Buscar un cliente
noMatch = No hay coincidencias.
counted = Contadas
countedThisPeriod = Contadas en este periodo
countedHelp = Periodo actual de cada cliente
tenantsUnknown = { $count ->
    [one] { $count } cliente sin datos, no incluido
   *[other] { $count } clientes sin datos, no incluidos
}

## Los últimos minutos

recent = Últimos { $minutes } minutos
recentAdded = { $count } nuevas
recentChart = Ejecuciones contadas en los últimos { $minutes } minutos
agoMinutes = hace { $minutes } min
now = ahora
peak = máximo { $count } en { $seconds } s
successRate = Tasa de éxito
success = Éxito
failed = { $count ->
    [one] { $count } fallida
   *[other] { $count } fallidas
}
costEstimate = Coste estimado
costHelp = Hasta ahora, sin impuestos
noPrice = Sin precio
open = { $count ->
    [one] { $count } abierta
   *[other] { $count } abiertas
}
openExecutions = Ejecuciones abiertas
openHelp = Empezadas y sin terminar; aún no cuentan

## Los orígenes, en breve

metering = Medición
sourcesCurrent = { $count ->
    [one] Origen al día
   *[other] Los { $count } orígenes al día
}
sourcesFailing = { $count ->
    [one] { $count } de { $total } orígenes falla
   *[other] { $count } de { $total } orígenes fallan
}
sourcesWaiting = { $count ->
    [one] { $count } de { $total } orígenes sin leer aún
   *[other] { $count } de { $total } orígenes sin leer aún
}
sourcesLosing = { $count ->
    [one] { $count } de { $total } orígenes puede perder ejecuciones
   *[other] { $count } de { $total } orígenes pueden perder ejecuciones
}
gapsCount = { $count ->
    [one] { $count } hueco
   *[other] { $count } huecos
}
gapsHelp = Ejecuciones que ya no estaban cuando Flowmeter las buscó
unmapped = { $count ->
    [one] { $count } ejecución no es de ningún cliente
   *[other] { $count } ejecuciones no son de ningún cliente
}
unmappedHelp = Se guardan, y contarán en cuanto una atribución de su origen las asigne a un cliente
unmappedLine = { $count } de { $name } ({ $where })
unmappedMore = { $count ->
    [one] y { $count } flujo más
   *[other] y { $count } flujos más
}
sourcesStale = { $count ->
    [one] { $count } de { $total } orígenes con retraso
   *[other] { $count } de { $total } orígenes con retraso
}
noSources = Sin orígenes
completeAgo = Completo hasta { $when }

## La fila de un cliente

tenant = Cliente
usage = Consumo
duration = Duración
freshness = Completo hasta
noLimit = Sin límite
ofLimit = de { $limit }
left = quedan { $count }
leftAtMost = quedan { $count } como mucho
overBy = { $count } de más
usedOf = { $used } de { $limit } usadas
atLeastMark = ≥ { $count }
unknown = Desconocido
unknownHelp = Aún sin datos
resets = se reinicia { $when }
resetsOn = Se reinicia el { $date }, { $when }
period = Periodo
mean = media { $duration }
never = Aún no

## Un cliente

executions = ejecuciones
thisPeriod = Este periodo
remaining = Restantes
uncounted = No contadas
errors = Errores
crashed = Caídas
canceled = Canceladas
late = Tardías
meanDuration = Duración media
durationP50 = p50
durationP95 = p95
byDay = Este periodo por días
noDays = Aún no se ha contado nada en este periodo.
peakDay = máximo: { $count } el { $date }
forecastEnd = Previsión: unas { $count } al final del periodo
forecastCost = aprox. { $cost }
forecastLimit = el límite se alcanza el { $date }
totalDuration = Duración total
lateHelp = Detectadas después del cierre de su periodo
uncountedHelp = El plan no las cuenta
adjusted = Ajuste manual
adjustedHelp = Forma parte del total, pero no de ningún día, flujo ni tasa de éxito
voided = Anuladas
voidedHelp = Ejecuciones que un operador ha retirado de todas las cifras
otherWorkflows = Otros flujos
total = Total
asOf = Cifras de las { $time }
floorNote = Al menos un origen falla. Lo que haya ejecutado desde entonces aún no está en estas cifras.
unknownNote = Flowmeter aún no tiene cifras de este cliente. No significa que no se haya ejecutado nada.

## Control del límite: check_ y el motivo

limitCheck = Control del límite
allowed = Permitida
refused = Rechazada
limitCheckHelp = Lo que se responde a un flujo que pregunta ahora
checkUsed = Usadas, reservas incluidas
checkFailed = El control del límite no responde: { $reason }
check_within_limit = Se han usado { $used } de { $limit } ejecuciones.
check_no_limit = El plan no tiene límite.
check_over_soft_limit = Por encima del límite, que es flexible: se han usado { $used } de { $limit } ejecuciones.
check_grace = Ya se han usado las { $limit } ejecuciones de este periodo. Pronto se rechazarán las siguientes.
check_not_counted = El plan no cuenta este tipo de ejecución.
check_error_workflow = Una ejecución de un flujo de error nunca se rechaza.
check_shadow = El plan está en modo de observación. De lo contrario, las ejecuciones se rechazarían.
check_not_attributed = Ninguna atribución del origen dice de quién es esta ejecución.
check_metering_stale = Los datos de consumo no están al día, y el plan permite ejecuciones mientras tanto.
check_metering_stale_refused = Los datos de consumo no están al día, y el plan no permite ejecuciones mientras tanto.
check_limit_unsettled = Puede que algunas de las últimas ejecuciones se cuenten dos veces momentáneamente. Inténtelo de nuevo: { $again }.
check_limit_reached = Se han usado las { $limit } ejecuciones de este periodo. El límite se renueva: { $until }.
check_overage_reached = Se han agotado el límite de { $limit } ejecuciones y el excedente permitido. El límite se renueva: { $until }.
check_tenant_minute_cap = Demasiadas ejecuciones en este minuto. La próxima puede empezar: { $again }.
check_tenant_day_cap = Demasiadas ejecuciones hoy. La próxima puede empezar: { $again }.
check_tenant_concurrent_cap = Hay demasiadas ejecuciones en curso. La próxima puede empezar cuando terminen algunas.
check_workflow_minute_cap = Demasiadas ejecuciones de este flujo en este minuto. La próxima puede empezar: { $again }.
check_workflow_day_cap = Demasiadas ejecuciones de este flujo hoy. La próxima puede empezar: { $again }.
check_workflow_concurrent_cap = Hay demasiadas ejecuciones de este flujo en curso. La próxima puede empezar cuando terminen algunas.
check_workflow_share_used = Este flujo ha usado su parte del límite de { $limit } ejecuciones. El límite se renueva: { $until }.
check_loop_detected = Este flujo se inicia mucho más de lo habitual, como si se iniciara a sí mismo.
check_unknown_tenant = No existe ese cliente.

## Los orígenes de un cliente

resetsAt = Se reinicia
limit = Límite
sources = Orígenes
complete = Completo hasta { $time }
notSwept = Sin leer aún
sourceOk = Al día
sourceFailing = Con fallos
sourceStale = Con retraso
sourcePaused = En pausa
sourceWaiting = A la espera de la primera lectura
failingSince = desde { $time }
attempts = { $count ->
    [one] { $count } intento
   *[other] { $count } intentos
}
unseen = { $count ->
    [one] Desde { $time }, hasta { $count } ejecución no ha aparecido nunca en n8n, porque no se guarda o se borró. No se cuenta salvo que n8n la envíe: guarde las ejecuciones o instale el hook.
   *[other] Desde { $time }, hasta { $count } ejecuciones no han aparecido nunca en n8n, porque no se guardan o se borraron. No se cuentan salvo que n8n las envíe: guarde las ejecuciones o instale el hook.
}
unsaving = { $count ->
    [one] { $count } flujo dice en sus ajustes que algunas ejecuciones no se guardan.
   *[other] { $count } flujos dicen en sus ajustes que algunas ejecuciones no se guardan.
}
clockRight = Reloj en hora
clockAhead = Reloj adelantado { $by }
clockBehind = Reloj atrasado { $by }
warningSince = Desde { $time }.
warning_clock_ahead = El reloj de este n8n va adelantado { $by } respecto al de Flowmeter. Póngalo en hora con NTP: hasta entonces, una ejecución cerca del final de un periodo se cuenta en el siguiente.
warning_clock_behind = El reloj de este n8n va atrasado { $by } respecto al de Flowmeter. Póngalo en hora con NTP: hasta entonces, una ejecución cerca del final de un periodo se cuenta en el anterior, o como tardía.
warning_shared_push_token = { $count ->
    [one] { $count } n8n envía con el token de este origen junto a otros, y se pierden ejecuciones. Cree un origen y un token para cada n8n.
   *[other] { $count } n8n envían con el token de este origen, y se pierden las ejecuciones de todos menos uno. Cree un origen y un token para cada n8n.
}
warning_same_instance = El n8n de este origen envía también en nombre de { $others }, y cada ejecución se cuenta una vez por cada uno. Conserve un origen y compártalo con atribuciones.
warning_same_address = { $others } tiene la misma dirección, y cada ejecución se cuenta una vez por cada uno. Elimine o pause todos menos uno, y comparta ese con atribuciones.
lossAhead = n8n borrará ejecuciones antes de la próxima lectura (aprox. { $time }).

## Huecos: gap_ y el motivo

gapRange = Ejecuciones { $first } a { $last }
gapFrom = Ejecuciones { $first } y posteriores
gapOne = Ejecución { $first }
gapUnknown = Ejecuciones con identificadores desconocidos
gapsMore = { $count ->
    [one] y { $count } más
   *[other] y { $count } más
}
gap_open_execution_vanished = estaba en curso y ya no está
gap_pruned_before_seen = borrada antes de verla
gap_epoch_ended = la base de datos se restauró o se sustituyó
gap_unspecified = motivo desconocido

## Por qué falla un origen (reason_) y qué hacer (advice_)

reason_unreachable = No responde
reason_unauthorized = Clave de API rechazada
reason_rate_limited = Demasiadas peticiones
reason_unreadable = Respuesta incomprensible
reason_too_large = Respuesta demasiado grande
reason_secret_unreadable = La clave guardada no se puede abrir
reason_internal = Fallo del propio Flowmeter
reason_unspecified = Con fallos
advice_unreachable = Compruebe que n8n funciona y que Flowmeter puede llegar a su dirección.
advice_unauthorized = Cree una clave de API en n8n (Settings, n8n API) y póngala en el origen.
advice_rate_limited = Suba el límite de la clave en n8n, o haga que el origen se lea con menos frecuencia.
advice_unreadable = Compruebe que la dirección del origen es la de un n8n, y qué hay delante de él.
advice_too_large = Haga que n8n borre sus ejecuciones antiguas, o bórrelas a mano.
advice_secret_unreadable = Vuelva a poner la clave de API del origen.
advice_internal = El problema no está en el origen: revise el bróker y la base de datos de Flowmeter.
advice_unspecified = Consulte el registro del colector.

## Flujos

workflows = Flujos
workflow = Flujo
source = Origen
share = Proporción
findWorkflow = Buscar un flujo
noWorkflows = Aún no hay ejecuciones en este periodo.
workflowsOmitted = { $count ->
    [one] { $count } flujo menor no aparece.
   *[other] { $count } flujos menores no aparecen.
}
showAll = { $count ->
    [one] Mostrar { $count } más
   *[other] Mostrar { $count } más
}

## Ejecuciones rechazadas: refusal_ y el motivo

refusedRuns = Ejecuciones rechazadas
refusedCount = Rechazadas
wouldBeRefused = Se habrían rechazado
reason = Motivo
noRefusals = No se ha rechazado ninguna ejecución en este periodo.
otherRefusals = Otras
furtherWorkflows = Otros flujos
noWorkflowNamed = Sin flujo indicado
refusal_limit_reached = Límite alcanzado
refusal_limit_unsettled = Límite alcanzado, o algunas ejecuciones contadas dos veces momentáneamente
refusal_overage_reached = Excedente permitido agotado
refusal_metering_stale = Datos de consumo desactualizados
refusal_tenant_minute_cap = Demasiadas ejecuciones en un minuto
refusal_tenant_day_cap = Demasiadas ejecuciones en un día
refusal_tenant_concurrent_cap = Demasiadas ejecuciones en curso
refusal_workflow_minute_cap = Demasiadas ejecuciones del flujo en un minuto
refusal_workflow_day_cap = Demasiadas ejecuciones del flujo en un día
refusal_workflow_concurrent_cap = Demasiadas ejecuciones del flujo en curso
refusal_workflow_share_used = El flujo ha usado su parte del límite
refusal_loop_detected = Bucle

## Periodos cerrados

closedPeriods = Periodos cerrados
closed = Cerrado
noClosedPeriods = Aún no se ha cerrado ningún periodo.
incomplete = Incompleto: { $sources }
lateFound = { $count ->
    [one] { $count } tardía
   *[other] { $count } tardías
}
